"""The group that the verbs of `regraft tables` register with."""

from regraft.cli.app import command_group

group = command_group("tables", "Embedding tables at a fraction of their memory, within a budget that is counted.")
