"""Every arm measured beside the baseline, then the best of them trained; each row kept as soon as it is there."""

from collections.abc import Sequence

from regraft.comparison.bench import Arm, Bench
from regraft.comparison.kept import Kept
from regraft.comparison.outcome import Outcome
from regraft.comparison.ranking import best
from regraft.progress import progress_bar


def run(bench: Bench, arms: Sequence[Arm], finalists: int | None, kept: Kept) -> dict[str, Outcome]:
    """Outcomes by name, the baseline first, then the arms in their order; one also where an arm failed.

    Parameters
    ----------
    finalists : how many arms are trained: the best before training, by the bench's metric; None trains all, 0 none.
    kept : what is found there under the bench's fingerprint is not measured again.
    """
    key, key_trained = (bench.fingerprint(trained=trained) for trained in (False, True))
    metric, by_name = bench.metric, {arm.name: arm for arm in arms}

    def found(settings: str, *keys: str) -> Outcome | None:
        lines = (kept.found(one, settings) for one in keys)
        return next((Outcome.from_line(line, metric) for line in lines if line is not None), None)

    def keep(settings: str, outcome: Outcome) -> Outcome:  # before training a row is the same whatever the budget
        trained = outcome.row.get(metric.after) is not None
        kept.keep(key_trained if trained else key, outcome.to_line(metric), settings)
        return outcome

    outcomes = {bench.reference: found(bench.reference, key) or keep(bench.reference, bench.baseline())}
    with progress_bar("comparing", total=len(arms), unit="methods") as bar:
        for name, arm in by_name.items():
            bar.say(name)
            outcomes[name] = found(arm.settings, key_trained, key) or keep(arm.settings, measured(bench, arm))
            bar.advance()
    final = best([outcomes[name] for name in by_name], metric, finalists)
    with progress_bar("training the best", total=len(final), unit=bench.unit) as bar:
        for name in final:
            bar.say(name)
            if outcomes[name].row.get(metric.after) is None:
                outcomes[name] = keep(by_name[name].settings, trained(bench, by_name[name], outcomes[name]))
            bar.advance()
    return outcomes


def measured(bench: Bench, arm: Arm) -> Outcome:
    outcome = Outcome({"method": arm.name, bench.metric.name: None, "error": None})
    with outcome.alone():
        return bench.measure(arm)
    return outcome


def trained(bench: Bench, arm: Arm, outcome: Outcome) -> Outcome:
    with outcome.alone():
        return bench.train(arm, outcome)
    return outcome
