"""What every script shares: options, errors, exit status, the tables it runs on by default."""
