"""What reproductions of probes share."""
