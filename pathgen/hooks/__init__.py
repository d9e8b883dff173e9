"""Forwards of modules that are replaced on the instance, and what they do in the calling thread."""
