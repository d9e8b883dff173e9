"""The search and the training that Dr.LLM released, and comparisons with them."""
