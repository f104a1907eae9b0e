"""Videos: an exact index of frames, reading by it, writing."""
