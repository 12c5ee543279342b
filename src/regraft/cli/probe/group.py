"""The group that the verbs of `regraft probe` register with."""

from regraft.cli.app import command_group

group = command_group("probe", "What representations hold: rank, tables, syntax, and what a task still asks for, with intervals.")
