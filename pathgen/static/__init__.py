"""One path for all questions: `pathgen static`."""
