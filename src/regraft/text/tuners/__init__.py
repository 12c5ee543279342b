"""Ways of training encoders, one module each."""

from regraft.text.tuner import Tuner

__all__ = ["Tuner"]
