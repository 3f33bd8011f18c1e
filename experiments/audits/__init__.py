"""How often the intervals of audits contain true values: at random, beyond the training rows, and for proposals."""
