"""What encoders are measured by, offline: similarity, classification, retrieval and words, by name or from the user's files."""
