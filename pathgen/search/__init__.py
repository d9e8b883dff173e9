"""The search for one question's paths. Pure: no model, no files."""
