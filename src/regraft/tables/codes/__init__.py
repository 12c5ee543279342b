"""Codes of few bits: how they are packed, and what product quantization makes of them."""
