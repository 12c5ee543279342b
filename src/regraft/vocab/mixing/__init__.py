"""What several starts share: rows for tokens that a start does not reach, a donor's vocabulary, spaces of words."""
