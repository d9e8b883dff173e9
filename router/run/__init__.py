"""One call of `router train` or `router evaluate`."""
