"""The search for one question's paths. Pure code: no model, no files."""
