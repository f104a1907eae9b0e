"""Prepare photographs on a Dask cluster of two processes: pip install "ndframes[dask,demo]"; python dev/engines/run_dask.py"""

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster
from photographs import main


@contextmanager
def start() -> Iterator[Client]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


if __name__ == "__main__":
    main("distributed", start)
