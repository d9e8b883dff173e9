"""`python -m infer` is `infer`."""

from .cli import main

main()
