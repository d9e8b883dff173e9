"""A task meets the model: evaluations of (question, path) pairs, and the paths that a policy takes."""
