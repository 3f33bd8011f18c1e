"""A description of a space, for tests of commands."""

TOML = """
name = "shown"
[[position]]
name = "stages"
values = [2, 3, 4]
[[position]]
name = "kernel4"
choices = ["3x3", "5x5", "7x7"]
only_if = "stages >= 4"
[[position]]
name = "width"
range = [16, 128]
step = 8
unit = "px"
[[forbid]]
where = "kernel4 == '7x7' and width > 64"
"""
