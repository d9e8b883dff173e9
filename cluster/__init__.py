"""Ray sessions, a fleet of replaceable actors, jobs on a cluster. Knows nothing of paths, models or torch."""

from .program.errors import ClusterError

__all__ = ["ClusterError"]
