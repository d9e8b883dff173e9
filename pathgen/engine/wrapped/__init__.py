"""A model whose decoder layers do what the calling thread asks of them: its modes, bridges, entries and routes."""
