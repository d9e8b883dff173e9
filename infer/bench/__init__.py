"""`infer bench`: systems side by side on the same questions."""
