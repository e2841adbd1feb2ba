"""`python -m predictord.worker`, which only the launcher runs: a worker, or with `zygote` what makes workers."""

import sys

if sys.argv[1] == "zygote":
    from predictord.worker.zygote import main
else:
    from predictord.worker.main import main

main()
