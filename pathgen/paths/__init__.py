"""What a layer path is, what it costs, and what it is worth."""
