"""Our own tiled formats: readers and writers of cache entries."""
