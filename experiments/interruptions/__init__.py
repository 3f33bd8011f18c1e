"""Interrupts commands: kills them, fills their disk, starts two on one folder; compares with an undisturbed run."""
