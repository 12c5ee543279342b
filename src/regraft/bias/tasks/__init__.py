"""Tasks by name or from a file, each of one kind."""
