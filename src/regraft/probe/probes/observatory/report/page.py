"""The page and the figures of an observation: what to take for these tables, a chart a property, every figure below.

Enters: an `Observation`. Leaves: a `Report` and a dict that JSON can hold.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import plotly.graph_objects as go

from regraft.probe.probes.observatory.method import Observation
from regraft.probe.probes.observatory.properties.base import Found, Outcome, Property
from regraft.probe.probes.observatory.properties.entity import Entity
from regraft.probe.probes.observatory.report.charts import boxes, join_points, stability_map
from regraft.report import Report, plain

INTERVALS = "Intervals are 95 %, by drawing tables again, or columns where there are fewer than five tables."
BOXES = "Boxes: the middle half with the median, whiskers from 5 to 95 % of all values, a dashed line at the mean."
MEASURES = {"fd": "variance"}  # what the boxes show where it is not the cosine
RANKED = ("row-order", "column-order", "join", "sample", "perturbation")  # where a higher headline is better beyond doubt


def page(
    seen: Observation, *, baseline: str | None, title: str, about: str, notes: Sequence[str] = (), order_free: Sequence[str] = ()
) -> Report:
    """The page: `about` says of how many tables, `notes` what was skipped or mended; `order_free` encoders cannot lead in order."""
    report = Report(title, f"{answer(seen, baseline, order_free)} {about}")
    report.add_table("At a glance", list(glance(seen)), caption(seen))
    for key, one in seen.properties.items():
        figure = chart(seen, key, one, baseline)
        if figure is not None:
            report.add_figure(one.title, figure, f"{one.question} {_notes(seen, key)}".strip())
    report.add_table("Every figure", list(rows(seen)), INTERVALS)
    report.add_table("How to read them", list(readings(seen)))
    left = [*({"what": "tables", "note": note} for note in notes), *left_out(seen)]
    if left:
        report.add_table("What was not measured, and why", left)
    return report


def answer(seen: Observation, baseline: str | None, order_free: Sequence[str] = ()) -> str:
    """One sentence: who leads where, among the models."""
    models = [name for name in seen.found if name != baseline] or list(seen.found)
    leads: dict[str, list[str]] = {}
    level: list[str] = []
    for key in (key for key in RANKED if key in seen.properties):
        one = seen.properties[key]
        known = {name: found for name in models if (found := headline(seen.found[name].get(key), one)) is not None}
        known = {name: found for name, found in known.items() if found.measurement.value == found.measurement.value}
        if key.endswith("order"):
            known = {name: found for name, found in known.items() if name not in order_free}
        if not known:
            continue
        best = max(known, key=lambda name: known[name].measurement.value)
        said = f"{one.title.lower()} ({known[best].measurement.value:.3f})"
        if len(known) > 1 and any(_overlap(known[best], other) for name, other in known.items() if name != best):
            level.append(one.title.lower())
        else:
            leads.setdefault(best, []).append(said)
    if len(models) == 1:
        said = ", ".join(part for parts in leads.values() for part in parts)
        return f"{models[0]} on these tables: {said}." if said else f"{models[0]}: nothing of what was asked could be measured."
    parts = [f"{name} leads in {', '.join(said)}" for name, said in leads.items()]
    if level:
        parts.append(f"{'no model leads' if not parts else 'they are level'} in {', '.join(level)}")
    said = "; ".join(parts) or "Nothing of what was asked could be measured"
    return f"{said[0].upper() if said.startswith('no model') else said[0]}{said[1:]}."


def _overlap(a: Outcome, b: Outcome) -> bool:
    left, right = a.measurement.interval, b.measurement.interval
    if left is None or right is None:
        return True
    return left[0] <= right[1] and right[0] <= left[1]


def headline(found: Found | None, one: Property) -> Outcome | None:
    """The outcome that stands for a property, or its first one of that measure."""
    if found is None:
        return None
    setting, measure = one.headline
    return found.get(setting, measure) or next((other for other in found.outcomes if other.measure == measure), None)


def glance(seen: Observation) -> Iterator[dict[str, Any]]:
    """One row an encoder: the headline of each property."""
    for name, of in seen.found.items():
        row: dict[str, Any] = {"encoder": name}
        for key, one in seen.properties.items():
            if not isinstance(one, Entity):
                found = headline(of.get(key), one)
                row[one.title.lower()] = round(found.measurement.value, 4) if _measured(found) else None
        yield row


def _measured(found: Outcome | None) -> TypeGuard[Outcome]:
    """Whether there is a figure: there is none, for example, of too few pairs."""
    return found is not None and found.measurement.value == found.measurement.value


def caption(seen: Observation) -> str:
    """What each column of the first table holds."""
    said = {}
    for key, one in ((key, one) for key, one in seen.properties.items() if not isinstance(one, Entity)):
        shown = next((found for of in seen.found.values() if _measured(found := headline(of.get(key), one))), None)
        if shown is not None:
            said[key] = f"{one.title.lower()}: {shown.label}"
    others = {"fd": "functional dependencies, where 0.5 says that none shows", "context": "context, which is a matter of taste"}
    but = " and ".join(why for key, why in others.items() if key in said)
    best = f" 1 is best{f' in all but {but}' if but else ''}." if said.keys() - others.keys() else ""
    return "; ".join(said.values()) + "." + best if said else ""


def chart(seen: Observation, key: str, one: Property, baseline: str | None) -> go.Figure | None:
    if isinstance(one, Entity):
        setting = next((found.setting for of in seen.pairs.values() for found in reversed(of.outcomes)), "")
        return stability_map(seen.pairs, list(seen.found), setting)
    found = {name: of[key] for name, of in seen.found.items() if key in of}
    if key == "join":
        return join_points(found, one.headline[0], baseline)
    return boxes(found, MEASURES.get(key, "cosine"), one.axis, None if key in MEASURES else one.ideal, baseline)


def _notes(seen: Observation, key: str) -> str:
    if key == "join":
        return "Each point is a pair of columns."
    if key == "fd":
        return f"Each encoder in its own unit of distance: compare FD with no FD. What sees no context has 0 by nature. {BOXES}"
    if key == "entity":
        return "Share of the nearest cells, by cosine, that both give."
    return BOXES


def outcomes(seen: Observation) -> Iterator[tuple[str, Property, Outcome]]:
    """Every outcome with the encoder, or the two, that it is of."""
    for key, one in seen.properties.items():
        for name, of in seen.found.items():
            yield from ((name, one, found) for found in (of[key].outcomes if key in of else ()))
        if isinstance(one, Entity):
            yield from ((f"{a} | {b}", one, found) for (a, b), of in seen.pairs.items() for found in of.outcomes)


def rows(seen: Observation) -> Iterator[dict[str, Any]]:
    for name, one, found in outcomes(seen):
        measured, quantiles = found.measurement, found.quantiles
        yield {
            "property": one.title.lower(),
            "encoder": name,
            "figure": found.label,
            "value": short(measured.value),
            "95 %": "–" if measured.interval is None else f"{short(measured.interval[0])} to {short(measured.interval[1])}",
            "5 % of values": short(quantiles["0.05"]) if len(found.values) > 1 else "–",
            "values": len(found.values),
        }


def readings(seen: Observation) -> Iterator[dict[str, str]]:
    """What each kind of figure says, once."""
    said: dict[tuple[str, str], str] = {}
    for _, one, found in outcomes(seen):
        kind = found.setting if one.key == "fd" else found.measure
        said.setdefault((one.title.lower(), kind), found.measurement.read)
    yield from ({"property": what, "figure": kind, "how to read it": read} for (what, kind), read in said.items())


def short(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.4g}"


def left_out(seen: Observation) -> Iterator[dict[str, str]]:
    """What properties could not be measured or skipped, once for all encoders that say the same."""
    said: dict[tuple[str, str], list[str]] = {}
    every = [(name, key, found) for name, of in seen.found.items() for key, found in of.items()]
    every += [(f"{a} | {b}", Entity.key, of) for (a, b), of in seen.pairs.items()]
    for name, key, found in every:
        none = ["no figure: too few pairs to rank"] if key == "join" and not _measured(headline(found, seen.properties[key])) else []
        for note in [*found.notes, *none, *(f"{reason}: {count:,} skipped" for reason, count in found.skipped.items() if count)]:
            said.setdefault((seen.properties[key].title.lower(), note), []).append(name)
    for (what, note), names in said.items():
        yield {"what": what, "note": note if len(names) == len(seen.found) else f"{', '.join(names)}: {note}"}


def figures(seen: Observation) -> dict[str, Any]:
    """Everything but raw values: by property, by encoder."""
    found: dict[str, Any] = {key: {"question": one.question, "encoders": {}} for key, one in seen.properties.items()}
    for name, of in seen.found.items():
        for key, one in of.items():
            found[key]["encoders"][name] = _found(one)
    for (a, b), one in seen.pairs.items():
        found[Entity.key]["encoders"][f"{a} | {b}"] = _found(one)
    return dict(plain(found))


def _found(found: Found) -> dict[str, Any]:
    return {
        "figures": [
            {
                **one.measurement.to_dict(),
                "setting": one.setting,
                "measure": one.measure,
                "values": len(one.values),
                "quantiles": one.quantiles,
            }
            for one in found.outcomes
        ],
        "skipped": {reason: count for reason, count in found.skipped.items() if count},
        "notes": found.notes,
    }
