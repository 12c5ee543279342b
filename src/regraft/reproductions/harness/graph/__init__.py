"""What reproductions of graphs share."""
