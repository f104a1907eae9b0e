"""Reading and writing whole videos."""
