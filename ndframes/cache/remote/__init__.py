"""A cache in an object store: the same entries, read by requests for the bytes that are needed."""
