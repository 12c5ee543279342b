"""What reproductions about spaces share."""
