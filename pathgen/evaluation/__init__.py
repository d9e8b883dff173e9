"""Runs a task's questions on a model: evaluations of (question, path) pairs, and the paths that a policy takes."""
