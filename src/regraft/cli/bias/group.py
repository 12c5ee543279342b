"""The group that the verbs of `regraft bias` register with."""

from regraft.cli.app import command_group

group = command_group("bias", "Networks that start with the right prior, beside the same network without it.")
