"""regraft: give a trained model what it was not born with, without pre-training it again, and measure what that cost."""

__version__ = "0.1.0"
