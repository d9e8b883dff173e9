"""Ray sessions and a fleet of replaceable actors. Knows nothing of paths, models or torch."""


class ClusterError(Exception):
    """Ray cannot be reached, or a fleet cannot go on. Its text is one line: what, where, what to do."""
