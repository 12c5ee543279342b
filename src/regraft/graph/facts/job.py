"""A model of facts trained, kept in a folder, opened again and asked.

The folder has `model.safetensors` (PyKEEN's parameters and the facts that are known), `facts.json` (names, settings) and `regraft.json`;
nothing of it is a pickle.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from regraft import provenance
from regraft.errors import CheckpointError, InputError
from regraft.graph.facts.data import SPLITS, Facts, open_facts
from regraft.graph.facts.learning import Learned, Ranks, Schedule, figures, learn, ranks
from regraft.graph.facts.model import FactModel
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

WEIGHTS, ABOUT = "model.safetensors", "facts.json"
FACTS = "facts."  # before the names of splits among the tensors


@dataclass(frozen=True, eq=False)
class Asked:
    """A model of facts, as it was trained, with the facts that it knows."""

    method: FactModel
    model: Any
    facts: Facts

    def answers(self, relation: str, *, head: str | None = None, tail: str | None = None, count: int = 10) -> list[dict[str, Any]]:
        """The `count` best tails of `head`, or heads of `tail`: rank, answer, score, spread, known (which part of the data has it).

        `spread` is the standard deviation of the answer's distribution, mean over coordinates; None where a model has points. Raises
        `InputError`: unknown names, a relation without facts, both or none of head and tail.
        """
        if (head is None) == (tail is None):
            raise InputError("give --head to ask for tails, or --tail to ask for heads")
        entity = _place(self.facts.entities, head if head is not None else tail, "entity")
        place = _place(self.facts.relations, relation, "relation")
        if not (self.facts.train[:, 1] == place).any():
            raise InputError(f"relation {relation!r} has no facts in training: nothing was learned of it")
        pair = torch.tensor([[entity, place] if head is not None else [place, entity]])
        with torch.no_grad():
            scores = (self.model.predict_t if head is not None else self.model.predict_h)(pair)[0]
        best = scores.topk(min(count, len(scores)))
        spreads, where = spread(self.model), self._known(entity, place, tails=head is not None)
        return [
            {
                "rank": rank,
                "answer": self.facts.entities[one],
                "score": score,
                "spread": None if spreads is None else float(spreads[one]),
                "known": where.get(one),
            }
            for rank, (one, score) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True), 1)
        ]

    def _known(self, entity: int, relation: int, *, tails: bool) -> dict[int, str]:
        given, wanted = (0, 2) if tails else (2, 0)
        found: dict[int, str] = {}
        for name, rows in zip(SPLITS, (self.facts.train, self.facts.valid, self.facts.test), strict=True):
            here = rows[(rows[:, given] == entity) & (rows[:, 1] == relation), wanted]
            found |= {one: name for one in here.tolist() if one not in found}
        return found


def spread(model: Any) -> Tensor | None:
    """(entities,) standard deviation of each entity's distribution, mean over coordinates; None of models of points."""
    flows = getattr(model, "flows", None)
    if flows is None or model.interaction.variant in ("point", "translation"):
        return None
    with torch.no_grad():
        found: Tensor = flows().std.mean(-1)
    return found


def train(
    dataset: str | Path,
    *,
    out: str | Path,
    model: str = "nfe",
    settings: Mapping[str, Any] | None = None,
    choices: Mapping[str, Sequence[Any]] | None = None,
    schedule: Schedule | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Train `model` on `dataset`, rank its test facts, and keep it in `out`. Returns the page and its figures.

    choices : values to try, by parameter of the model; every combination is trained, and the one that ranks validation facts best is kept.
    """
    from regraft.graph.facts.report.training import report_of

    schedule = schedule or Schedule()
    check_output(out, overwrite=overwrite)
    tried = [dict(zip(choices or (), values, strict=True)) for values in product(*(choices or {}).values())]
    methods: list[FactModel] = [resolve("fact-model", model, {**(settings or {}), **one}) for one in tried]
    facts = open_facts(dataset, seed=seed)
    learned, reached = best_of(methods, facts, schedule, seed)
    with step("ranking the test facts"):
        found = ranks(learned.model, facts.test, [facts.train, facts.valid])
    rows = [{**one, "validation_mrr": value} for one, value in zip(tried, reached, strict=True)] if choices else []
    report = report_of(facts, learned, figures(found), spread(learned.model), rows)
    told = {"dataset": facts.name, "model": learned.method.name, "epoch": learned.epoch, **figures(found), "notes": list(facts.notes)}
    told |= {"tried": rows} if choices else {}
    with atomic_directory(out, overwrite=overwrite) as folder:
        save(folder, learned, facts, dataset=dataset, schedule=schedule, seed=seed, found=found)
        report.save_html(folder / "report.html")
    return report, {**told, "out": str(out)}


def best_of(methods: Sequence[FactModel], facts: Facts, schedule: Schedule, seed: int) -> tuple[Learned, list[float]]:
    """The one of `methods` that ranks validation facts best, and what each reached; of equals the first."""
    best: Learned | None = None
    reached: list[float] = []
    for method in methods:
        learned = learn(method, facts, schedule, seed)
        reached.append(learned.validation)
        if best is None or learned.validation > best.validation:
            best = learned
    assert best is not None
    return best, reached


def save(folder: Path, learned: Learned, facts: Facts, *, dataset: str | Path, schedule: Schedule, seed: int, found: Ranks) -> None:
    """Write the files of a trained model into `folder`."""
    state = {name: tensor.contiguous() for name, tensor in learned.model.state_dict().items()}
    rows = {f"{FACTS}{name}": part for name, part in zip(SPLITS, (facts.train, facts.valid, facts.test), strict=True)}
    save_file(state | rows, folder / WEIGHTS)
    about = {
        "method": learned.method.name,
        "settings": asdict(learned.method),
        "name": facts.name,
        "entities": facts.entities,
        "relations": facts.relations,
    }
    (folder / ABOUT).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    source = provenance.Given(Path(dataset).expanduser().resolve(), digest=f"sha256:{facts.sha256}", id=facts.name)
    record = provenance.record(
        source,
        "graph facts train",
        method=learned.method.name,
        parameters=about["settings"] | asdict(schedule),  # type: ignore[operator]
        seed=seed,
        metrics=figures(found),
        notes=facts.notes,
    )
    provenance.save(record, folder, [WEIGHTS, ABOUT])


def load(folder: str | Path) -> Asked:
    """What `train` kept in `folder`. Raises `CheckpointError`: no such folder, or files that are not a model of facts."""
    folder = Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        rows = [tensors.pop(f"{FACTS}{name}") for name in SPLITS]
        method: FactModel = resolve("fact-model", about["method"], about["settings"])
        facts = Facts(about["name"], tuple(about["entities"]), tuple(about["relations"]), rows[0], rows[1], rows[2])
        model = method.build(facts.factory(method.inverse))
        model.load_state_dict(tensors)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: has no {Path(error.filename or ABOUT).name}: no model of `regraft graph facts train`") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be read as a model of facts ({' '.join(str(error).split())[:200]})") from None
    model.eval()
    return Asked(method, model, facts)


def _place(names: Sequence[str], name: str | None, kind: str) -> int:
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names[:5])}{' ...' * (len(names) > 5)}"
    raise InputError(f"unknown {kind} {name!r}: {hint}")
