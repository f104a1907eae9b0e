"""What a user specifies: channels, paths, backends and kinds of files. Frozen values; nothing is opened."""
