"""What a run holds: statistics, one record, validation."""
