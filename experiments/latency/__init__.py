"""Speed of inversion, measured in processes of their own."""
