"""What every program shares: console, errors, folders, processes."""
