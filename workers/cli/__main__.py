"""`python -m subtokens.workers.cli`, where the entry point is not on PATH."""

from . import main

main()
