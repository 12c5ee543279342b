"""The group that the verbs of `regraft text` register with."""

from regraft.cli.app import command_group

group = command_group("text", "Encoders of texts: use a model as one, train it, compare several.")
