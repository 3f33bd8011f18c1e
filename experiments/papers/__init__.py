"""Published figures, and the tables that set this project's records beside them."""
