"""Quality of proposed architectures, scored by the table or by an independently trained ensemble."""
