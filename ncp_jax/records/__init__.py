"""Records of runs: the journal of finished runs, the run card, shares of the work."""
