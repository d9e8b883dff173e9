"""Development questions: routed accuracy and depth, and what is tuned on them."""
