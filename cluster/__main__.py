"""`python -m cluster` is `cluster`."""

from .cli import main

main()
