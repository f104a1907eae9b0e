"""Shared parts of the benchmarks: processes, rounds, reference pixels, options and results."""
