"""TIFF files of any program: which pages form the image, what their samples mean, and where their blocks are."""
