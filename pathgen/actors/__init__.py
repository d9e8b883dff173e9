"""Where actors run, and how they load the model."""
