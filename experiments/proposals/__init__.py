"""Quality of proposed architectures, scored by the table or by an independent ensemble."""
