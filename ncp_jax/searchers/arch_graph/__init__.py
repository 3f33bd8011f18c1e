"""Arch-Graph: pairwise relations, an acyclic graph of the trusted ones, its top measured next."""
