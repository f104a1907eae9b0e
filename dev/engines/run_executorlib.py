"""Prepare photographs with executorlib: pip install "ndframes[demo]" executorlib; python dev/engines/run_executorlib.py"""

from functools import partial

from executorlib import SingleNodeExecutor
from photographs import main

if __name__ == "__main__":
    # The workers are kept for all jobs, instead of a process for each one. Jobs have no dependencies; its thread that looks for
    # them would die, and shutdown() hang, when a waiting job is cancelled by Ctrl-C.
    main("executorlib", partial(SingleNodeExecutor, max_workers=2, block_allocation=True, disable_dependencies=True))
