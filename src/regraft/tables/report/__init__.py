"""What only the pages of compressed tables show."""
