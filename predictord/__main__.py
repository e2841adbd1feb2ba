"""`python -m predictord`."""

from predictord.cli import main

main()
