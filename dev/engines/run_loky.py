"""Prepare photographs in loky's processes: pip install "ndframes[demo]" loky; python dev/engines/run_loky.py"""

from functools import partial

from loky import ProcessPoolExecutor
from photographs import main

if __name__ == "__main__":
    main("loky", partial(ProcessPoolExecutor, 2))
