"""What README and the pages of docs/ say of methods and results, written from what there is: `python docs/write.py`.

A page holds ``<!-- made: WHAT -->`` and ``<!-- end -->``; what stands between is written anew. WHAT is ``methods FAMILY`` (a table of its
methods), ``count FAMILY ...`` (how many they have), ``results`` (committed results in short) or ``advice`` (the guide "Which method": each
answer beside the results it rests on; a result that no longer says so is an error). `tests/docs/` holds that nothing is out of date.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.method import list_methods
from regraft.reproductions import results_summary
from regraft.reproductions.harness.record import RESULTS, read_records

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FILES = ("donor", "vectors", "source-vectors", "dictionary", "bitext", "ontology")  # options that give a method what it needs
MADE = re.compile(r"(<!-- made: ([a-z -]+) -->\n?)(.*?)(\n?<!-- end -->)", flags=re.DOTALL)
HELD, FELL = "reproduced", "not reproduced"


@dataclass(frozen=True)
class Evidence:
    """A claim of a committed result, by the beginnings of its text and data, and the verdict that an answer rests on."""

    method: str
    claim: str
    verdict: str
    beside: str
    data: str = ""


RESIZE, DISTILLED = "`resize_token_embeddings`", "at a learning rate of 1e-3, distilled rows "
ADVICE: dict[str, dict[str, list[Evidence]]] = {
    "New pieces, and nothing but text: `constituent-mean`, or `auto` where it may learn for minutes": {
        "the mean of the old pieces, before training": [
            Evidence("zip-tie", "step 0: zip-tie beats the library's default", HELD, RESIZE),
            Evidence("lowres-sinhala", "before training, the mean of the old pieces beats near", HELD, "the mean of all rows"),
            Evidence("lowres-sinhala", "before training, the mean of the old pieces beats FOCUS", HELD, "FOCUS"),
        ],
        "the same, after training": [
            Evidence("zip-tie", "after training with frozen base rows zip-tie is still lowest: def", HELD, RESIZE),
        ],
        "learned mixes (CW2V) instead": [
            Evidence("cw2v", "step 0: CW2V is not worse than the mean of the old pieces", FELL, "the mean of the old pieces"),
        ],
    },
    "Another tokenizer, all at once (`--replace`): `focus`, or `wechsel` with vectors of both languages": {
        "FOCUS": [
            Evidence("focus", "step 0: FOCUS beats the library's default", HELD, RESIZE),
            Evidence("focus", "step 0: FOCUS is not worse than WECHSEL", HELD, "WECHSEL, before training"),
        ],
        "WECHSEL": [
            Evidence("wechsel", "after the same training WECHSEL is still ahead of the lib", HELD, f"{RESIZE}, after training"),
        ],
    },
    "A few minutes to learn: train the rows (`--train`) rather than distil them": {
        "token distillation": [
            Evidence("token-distillation", DISTILLED + "cost less", HELD, "the mean they start from"),
            Evidence("token-distillation", DISTILLED + "are not worse than ones tuned", FELL, "rows tuned for as long"),
        ],
    },
    "A donor model or multilingual vectors: measure before you trust them": {
        "OMP": [Evidence("omp", "OMP is not worse than the mean", FELL, "the mean, which needs no donor")],
        "OFA": [Evidence("ofa", "step 0: OFA is not worse", FELL, "the mean, which needs no vectors")],
    },
    "Few labels and an encoder: measure on your labels (`regraft compare-tasks`)": {
        "K-Tokeniser with 5 % of the labels": [
            Evidence("k-tokeniser", "5 % of the labels: at least 1 point above the base tokenizer", FELL, "the base tokenizer"),
        ],
    },
    "Two tables of words: `vecmap` with thousands of pairs, `refined-procrustes` with hundreds": {
        "VecMap, 5,000 pairs": [
            Evidence("sinhala-english-alignment", "with 5,000 pairs VecMap finds more than Procrustes", HELD, "Procrustes"),
        ],
        "refined Procrustes, 500 pairs": [
            Evidence("sinhala-english-alignment", "refining finds at least 8 points more", HELD, "Procrustes", "GloVe"),
        ],
        "CSLS, 500 pairs": [
            Evidence("sinhala-english-alignment", "CSLS finds at least as much as cosines", HELD, "cosines", "GloVe"),
        ],
    },
    "One encoder's classifier for another encoder: an orthogonal map; relative coordinates where there are many encoders": {
        "`procrustes`, 768 anchors": [
            Evidence("relative-representations", "an orthogonal map on the same 768 anchors", HELD, "relative coordinates"),
        ],
    },
}  # fmt: skip


def found(evidence: Evidence, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The one claim that `evidence` means. Raises `ValueError` where it is missing, ambiguous, or its verdict has changed."""
    claims = [claim for record in records if record["method"] == evidence.method for claim in record["claims"]]
    meant = [claim for claim in claims if claim["claim"].startswith(evidence.claim) and evidence.data in claim["data"]]
    if len(meant) != 1:
        raise ValueError(f"{evidence.method}: {len(meant)} claims begin with '{evidence.claim}': mend docs/write.py")
    if meant[0]["verdict"] != evidence.verdict:
        raise ValueError(f"{evidence.method}: '{evidence.claim}' is '{meant[0]['verdict']}' now: is the answer still right?")
    return meant[0]


def advice(folder: Path = RESULTS) -> str:
    """The answers with effects, 95 % intervals, data and commands, as Markdown."""
    records, lines = list(read_records(folder)), []
    for answer, ways in ADVICE.items():
        lines += [f"### {answer}", "", "| what | beside | effect | 95 % interval | run it |", "|---|---|---|---|---|"]
        for way, evidence in ways.items():
            for one in evidence:
                claim = found(one, records)
                low, high = claim["interval"]
                effect, interval = f"{claim['effect']:+.2f} {claim['unit']}", f"{low:+.2f} to {high:+.2f}"
                lines.append(f"| {way} | {one.beside} | {effect} | {interval} | `regraft reproduce {one.method}` |")
        lines.append("")
    return "\n".join(lines)


def methods(family: str) -> str:
    """A table of a family's methods; with what they need where any needs something."""
    listed = list(list_methods(family))
    asks = any(cls.needs for cls in listed)
    lines = [f"| method | what it does |{' needs |' if asks else ''} source |", f"|---|---|{'---|' if asks else ''}---|"]
    for cls in listed:
        needs = f" {', '.join(f'`--{one}`' if one in FILES else one for one in names(cls.needs))} |" if asks else ""
        lines.append(f"| `{cls.name}` | {cls.summary} |{needs} {cls.paper.authors} {cls.paper.year} |")
    return "\n".join(lines)


def names(needs: tuple[str, ...]) -> list[str]:
    return [one.replace("_", "-") for one in needs]


def made(what: str) -> str:
    kind, *families = what.split()
    if kind == "methods":
        return methods(families[0])
    if kind == "count":
        return str(sum(len(list(list_methods(family))) for family in families))
    return {"advice": advice, "results": results_summary}[kind]()


def written(page: str) -> str:
    """`page` with what stands between its marks made anew: on the mark's own line where it stood there, else in a paragraph of its own."""

    def fill(found: re.Match[str]) -> str:
        begin, what, _, end = found.groups()
        gap = "\n\n" if begin.endswith("\n") else ""
        return f"{begin.strip()}{gap}{made(what).strip()}{gap}{end.strip()}"

    return MADE.sub(fill, page)


if __name__ == "__main__":
    for path in PAGES:
        text = path.read_text("utf-8")
        if (new := written(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: written anew")
