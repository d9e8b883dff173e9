"""What a router should do on each question."""
