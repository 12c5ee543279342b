"""Every class of transformers that reads text ids: extend, replace, trim and evaluate, beside a plain `resize_token_embeddings`.

Each class is built tiny and random with a toy tokenizer of the kind its family uses, in a forked process of its own, and each result is
judged by plain `transformers` alone: it loads; logits or hidden states of text whose segmentation did not change are those of before; new
ids run; stored ids name the tokens they named; text comes back; bits per byte are those of a plain forward pass to 1e-4.

    python benchmarks/vocabulary/families.py [CLASS ...] [--json FILE] [--table FILE]

Exits with 1 if a job is wrong without a word, or crashes.
"""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from every_family.classes import every_class
from every_family.jobs import JOBS, PEERS, run_class

SECONDS = 240  # for one class


def forked(name: str, kind: str) -> dict[str, str]:
    """`run_class` in a child, so that no class pays for another's imports or faults."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(SECONDS)
        with tempfile.TemporaryDirectory(prefix="family-") as folder:
            found = run_class(name, kind, Path(folder))
        with os.fdopen(write, "w") as pipe:
            json.dump(found, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"build": f"ended without an answer within {SECONDS} seconds"}


def table(results: dict[str, dict[str, str]], kinds: dict[str, str]) -> str:
    """The results as a Markdown page."""
    import transformers

    built = {name: found for name, found in results.items() if "build" not in found}
    columns = (*JOBS, *PEERS)
    lines = [
        "# What it works on",
        "",
        f"Every class of the auto mappings of transformers {transformers.__version__} that reads text ids, tiny and random, with a toy",
        "tokenizer of the kind its family uses; judged by plain transformers (`python benchmarks/vocabulary/families.py`).",
        "`resize_token_embeddings` is what a user would otherwise do to extend a vocabulary.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for verdict in ("right", "refused", "wrong", "crash"):
        counts = [sum(found[job].startswith(verdict) for found in built.values()) for job in columns]
        lines.append(f"| {verdict} | " + " | ".join(map(str, counts)) + " |")
    if left := len(kinds) - len(results):
        lines += ["", f"{left} of {len(kinds)} classes were not run."]
    whole = sum(all(found[job] in ("right", "-") for job in JOBS) for found in built.values())
    lines += ["", f"All jobs right: **{whole} of {len(built)} classes**; the plain resize is right on "
              f"{sum(found[PEERS[0]] == 'right' for found in built.values())}.", ""]  # fmt: skip
    lines += ["| class | kind | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for name, found in sorted(built.items()):
        lines.append(f"| `{name}` | {kinds[name]} | " + " | ".join(_cell(found[job]) for job in columns) + " |")
    reasons = [(name, job, found[job]) for name, found in sorted(built.items()) for job in columns if found[job] not in ("right", "-")]
    lines += ["", "## What is not right, and why", "", *(f"- `{name}`, {job}: {_plain(text)}" for name, job, text in reasons)]
    left_out = {name: found["build"] for name, found in sorted(results.items()) if "build" in found}
    lines += ["", "## Classes that could not be made small", "", *(f"- `{name}`: {_plain(text)}" for name, text in left_out.items()), ""]
    return "\n".join(lines)


def _cell(verdict: str) -> str:
    return verdict.partition(":")[0].replace("right", "yes")


def _plain(text: str) -> str:
    return re.sub(r"\S*/source: ", "", text).replace("|", "/").replace("<", "&lt;")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", nargs="*", help="class names; default all")
    parser.add_argument("--json", type=Path, help="where to keep the results; classes that are in it already are not run again")
    parser.add_argument("--table", type=Path, help="where to write the page")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers

    import regraft.evaluation.checkpoint
    import regraft.vocab.adapt  # noqa: F401  # paid once
    from regraft.progress import console

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    console.quiet = True
    kinds = every_class()
    results: dict[str, dict[str, str]] = json.loads(options.json.read_text()) if options.json and options.json.is_file() else {}
    for name in options.classes or kinds:
        if name in results:
            continue
        start = time.perf_counter()
        results[name] = forked(name, kinds.get(name, "other"))
        shown = {job: text for job, text in results[name].items() if text not in ("right", "-")}
        print(f"{name:45} {time.perf_counter() - start:5.1f} s  {shown or 'right'}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=0))
    counts = Counter(text.partition(":")[0] for found in results.values() for job, text in found.items() if job in JOBS)
    print(dict(counts))
    if options.table:
        options.table.write_text(table(results, kinds), "utf-8")
    return bool(counts["wrong"] + counts["crash"])


if __name__ == "__main__":
    sys.exit(main())
