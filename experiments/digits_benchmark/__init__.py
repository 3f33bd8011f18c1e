"""Makes the benchmark that ships: trains cells, assembles the table, its card and its figures."""
