"""Other sizes: a trained model made deeper, shallower, wider or a mixture of experts, or weights for a model that was never trained."""
