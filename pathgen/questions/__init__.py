"""Questions: their sources, prompts, tokens and grades."""
