"""`infer export`: an ordinary checkpoint folder of a path that is the same for every question."""
