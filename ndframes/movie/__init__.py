"""Whole videos: read and write them."""
