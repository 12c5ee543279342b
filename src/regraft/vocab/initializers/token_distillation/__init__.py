"""Token distillation: new rows learn to leave behind the hidden states that the old spelling left."""

from regraft.vocab.initializers.token_distillation.method import TokenDistillation

__all__ = ["TokenDistillation"]
