"""A trained model with another width."""
