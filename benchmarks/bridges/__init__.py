"""Measurements of bridges: text, generation, paths, routers over them."""
