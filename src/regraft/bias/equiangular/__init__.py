"""Fixed class vectors that are nearly orthogonal to each other: how they are made, and a classifier that learns to point at them."""
