"""The table of the guide "Which method": each answer beside the committed results it rests on.

`python docs/advice.py` writes it into the guide anew. A result that no longer says what an answer rests on is an error.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.reproductions.harness.record import RESULTS, read_records

GUIDE = Path(__file__).parent / "guides" / "which-method.md"
START, END = "<!-- made by docs/advice.py -->", "<!-- end -->"
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
        raise ValueError(f"{evidence.method}: {len(meant)} claims begin with '{evidence.claim}': mend docs/advice.py")
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


def written(guide: str, block: str) -> str:
    """`guide` with `block` between its marks."""
    before, _, rest = guide.partition(START)
    return f"{before}{START}\n\n{block}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    GUIDE.write_text(written(GUIDE.read_text("utf-8"), advice()), encoding="utf-8")
