"""Path generation: a frozen model, searched for the layer paths that answer each question best."""
