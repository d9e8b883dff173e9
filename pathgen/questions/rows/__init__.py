"""A source's rows: which column is what, how gold is given, and what a row asks."""
