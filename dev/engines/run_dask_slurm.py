"""Prepare a folder of scans on Slurm: pip install "ndframes[dask]" dask-jobqueue; python dev/engines/run_dask_slurm.py SCANS WORKDIR

Run it on a login node. Both folders must be on a file system that all nodes share. It needs Slurm's sbatch.
"""

import sys

from dask_jobqueue import SLURMCluster
from distributed import Client

import ndframes as nf

if __name__ == "__main__":
    scans, workdir = sys.argv[1:]
    frames = nf.SimpleFrames(scans, workdir=workdir)
    # A job of Slurm is one worker, which converts 16 images at a time.
    with SLURMCluster(cores=16, processes=1, memory="32GB", walltime="02:00:00") as cluster, Client(cluster) as client:
        cluster.scale(jobs=20)
        print(frames.prepare(executor=client, errors="collect"))
