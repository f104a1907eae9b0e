"""Readers of source images: GDAL, tifffile and arrays."""
