"""What a layer stores in a cache."""
