"""Thin adapters, so that ndframes stands where another package stood: one module under the name of each."""
