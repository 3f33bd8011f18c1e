"""Plain Python searches, and how much faster the compiled ones are."""
