"""What every experiment shares: options, errors, exit status, summary.json and the tables it runs on by default."""
