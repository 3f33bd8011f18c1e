"""Trains thousands of cell architectures in one program, on tasks made of small images of digits."""
