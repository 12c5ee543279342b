"""Another number of layers: each new layer a weighted sum of layers that are there."""
