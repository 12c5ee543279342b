"""The group that the verbs of `regraft grow` register with."""

from regraft.cli.app import command_group

group = command_group("grow", "A trained model in another size: depth, width, experts, predicted weights, guidance.")
