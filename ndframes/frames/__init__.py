"""Frames: image ids to pixels, with batches, preparation and explanations."""
