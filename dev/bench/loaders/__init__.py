"""Contenders that deliver batches to a training loop."""
