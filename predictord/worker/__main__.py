"""`python -m predictord.worker`, which only the launcher runs."""

from predictord.worker.main import main

main()
