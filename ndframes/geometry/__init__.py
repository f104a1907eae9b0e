"""Geometry: regions, tile grids, affine maps, kernels and padding. Numbers only, no pixels and no files."""
