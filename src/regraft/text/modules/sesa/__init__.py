"""Modules of encoders whose dimensions are concepts: a recurrent network, and ESA."""
