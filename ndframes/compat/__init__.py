"""Thin adapters with the interfaces of other packages: one module for each, under its name."""
