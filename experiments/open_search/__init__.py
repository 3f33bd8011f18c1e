"""Searches of spaces that no searcher lists: what they are asked, the rivals, and the comparison."""
