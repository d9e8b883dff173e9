"""A frozen model run along layer paths: exact, batched, with shared prefixes."""
