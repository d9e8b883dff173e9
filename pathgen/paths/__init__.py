"""Layer paths, their cost and their reward."""
