"""A frozen model and its router as one model."""
