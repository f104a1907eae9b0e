"""Prepare photographs with Parsl: pip install "ndframes[demo]" parsl; python dev/engines/run_parsl.py"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from parsl import Config, HighThroughputExecutor
from parsl.concurrent import ParslPoolExecutor
from parsl.providers import LocalProvider
from photographs import main


@contextmanager
def start() -> Iterator[ParslPoolExecutor]:
    with tempfile.TemporaryDirectory() as folder:
        # On a cluster: parsl.providers.SlurmProvider, and the address of this host as the workers see it.
        workers = HighThroughputExecutor(
            max_workers_per_node=2, address="127.0.0.1", provider=LocalProvider(init_blocks=1, max_blocks=1)
        )
        with ParslPoolExecutor(Config(executors=[workers], run_dir=folder, usage_tracking=0)) as executor:
            executor.num_workers = 2  # it does not tell, and cannot cancel what it has
            yield executor


if __name__ == "__main__":
    main("parsl", start)
