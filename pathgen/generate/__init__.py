"""One call of `pathgen generate`: searches on a fleet of actors."""
