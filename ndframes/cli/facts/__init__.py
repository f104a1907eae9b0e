"""What ``ndframes info`` prints about images, sequences, videos and datasets."""
