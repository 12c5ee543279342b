"""The verbs of `regraft concept`."""
