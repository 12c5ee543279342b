"""What the reproductions of the vocabulary family share: settings, starts, arms of training."""
