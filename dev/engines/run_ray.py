"""Prepare photographs as tasks of Ray: pip install "ndframes[demo]" ray; python dev/engines/run_ray.py"""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

import ray
from photographs import main

import ndframes as nf


@contextmanager
def start() -> Iterator[Executor]:
    # On a cluster: ray.init("auto"), or the variable RAY_ADDRESS and no call at all.
    with ray.init(num_cpus=2, include_dashboard=False), nf.ray_executor(num_cpus=1) as executor:
        yield executor


if __name__ == "__main__":
    main("ray", start)
