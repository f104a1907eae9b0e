"""The operating system: processes, threads, memory, handles and files."""
