"""Baselines that choose depth without training: fixed paths, ShortGPT, early exit, search at test time."""
