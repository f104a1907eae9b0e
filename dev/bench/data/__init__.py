"""Input data of the benchmarks, synthesised from photographs."""
