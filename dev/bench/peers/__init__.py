"""The contenders: ndframes, other libraries for the same task, and the baseline that memory sets."""
