"""`python -m router` is `router`."""

from .cli import main

main()
