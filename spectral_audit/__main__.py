"""`python -m spectral_audit`."""

from .cli import main

main()
