"""Other ways to choose depth: fixed paths, ShortGPT, early exit, search at test time."""
