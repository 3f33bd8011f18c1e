"""One architecture for several tasks: preferences and budgets as questions, answered by inversion and by evolution."""
