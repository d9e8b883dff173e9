"""What survives `kill -9`, lost nodes and other batches."""
