"""From a question source to prompts, tokens and grades."""
