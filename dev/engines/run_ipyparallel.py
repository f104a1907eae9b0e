"""Prepare photographs on engines of ipyparallel: pip install "ndframes[demo]" ipyparallel; python dev/engines/run_ipyparallel.py"""

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import ipyparallel
from photographs import main


@contextmanager
def start() -> Iterator[Executor]:
    with ipyparallel.Cluster(n=2, log_level=logging.WARNING) as client:
        yield client.executor()


if __name__ == "__main__":
    main("ipyparallel", start)
