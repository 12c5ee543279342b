"""One comparison for every family: ways beside a baseline, the best of them trained, resumable, with paired intervals, in one table."""

from regraft.comparison.arms import arms_of
from regraft.comparison.bench import Arm, Bench
from regraft.comparison.kept import Kept
from regraft.comparison.outcome import Metric, Outcome
from regraft.comparison.ranking import rank, ranked, set_behind
from regraft.comparison.report import check_out, save, tables_of
from regraft.comparison.run import run

__all__ = ["Arm", "Bench", "Kept", "Metric", "Outcome", "arms_of", "check_out", "rank", "ranked", "run", "save", "set_behind", "tables_of"]
