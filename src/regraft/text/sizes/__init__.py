"""One encoder in many sizes: which there are, all of them from one forward pass, what is learned from them, and one cut out as a model."""
