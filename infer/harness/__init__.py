"""lm-evaluation-harness with the routed model."""
