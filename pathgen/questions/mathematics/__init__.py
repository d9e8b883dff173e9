"""Mathematics in plain text and TeX: one notation, values, and whether two are the same."""
