"""The cache: what an entry is called, how it is written, and where it lies."""
