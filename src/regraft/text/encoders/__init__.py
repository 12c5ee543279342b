"""Ways of encoding, one module each."""

from regraft.text.encoder import Encoder

__all__ = ["Encoder"]
