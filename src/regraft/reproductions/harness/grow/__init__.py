"""What reproductions of growth share."""
