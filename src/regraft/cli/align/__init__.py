"""`regraft align`: maps between spaces. One module a verb; each registers itself with the group."""

from regraft.cli.align import compare as compare
from regraft.cli.align import diagnose as diagnose
from regraft.cli.align import evaluate as evaluate
from regraft.cli.align import fit as fit
from regraft.cli.align import search as search
