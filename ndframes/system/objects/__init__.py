"""Object stores: S3, Azure, Google Cloud Storage, and files behind an HTTP server."""
