"""What is read from a transformer: which layer, which chunks, and what is done with vectors afterwards."""
