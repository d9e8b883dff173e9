"""Ray sessions and a fleet of replaceable actors. Knows nothing of paths, models or torch."""
