"""`python -m pathgen` is `pathgen`."""

from .cli import main

main()
