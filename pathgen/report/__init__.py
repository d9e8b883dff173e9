"""Reports on a run: statistics, one record, validation."""
