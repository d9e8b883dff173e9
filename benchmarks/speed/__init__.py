"""How fast the engine, runs, training and routed decoding are."""
