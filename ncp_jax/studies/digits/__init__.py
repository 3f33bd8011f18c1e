"""The project's own benchmark: every TransNAS micro cell trained on five tasks made of digits."""
