"""What paths and routers are worth on real questions."""
