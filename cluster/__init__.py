"""Ray sessions, fleets of replaceable actors, and jobs on a cluster. Independent of paths, models and torch."""

from .program.errors import ClusterError

__all__ = ["ClusterError"]
