"""The facts that ``ndframes info`` prints about images, sequences, videos and datasets."""
