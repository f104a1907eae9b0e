"""Formats: readers of any image, and writers of the forms that the cache holds."""
