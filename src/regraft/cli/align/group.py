"""The group that the verbs of `regraft align` register with."""

from regraft.cli.app import command_group

group = command_group("align", "Maps between spaces: learn them from pairs, measure them, search across them.")
