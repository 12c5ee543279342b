"""The rows of every start stay what they are; `golden/rows.json` is what an earlier build gave.

Written anew, where rows are meant to change, with `REGRAFT_WRITE_GOLDEN=1 pytest tests/vocab/initializers/test_golden_rows.py`.
"""

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from regraft.method import resolve
from regraft.vocab.transplant.transplant import transplant
from toys.starts import METHODS, SETTINGS, change_of, context_of, old_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden"
BY_THE_CLOCK = {"auto"}  # learns layers: rounding of other processors adds up


def processor_kind():
    """What rounding depends on: vendor and instructions, for the libraries choose their kernels by both, and PyTorch's version."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text("utf-8").splitlines() if about.is_file() else [platform.processor()]
    vendor = next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), lines[0])
    return f"{vendor} {torch.backends.cpu.get_cpu_capability()} {torch.__version__}"


def sketch(result):
    """The digest of the tables, with numbers in which another processor's rounding does not show."""
    tables = [table.double() for table in (result.input, result.head, result.bias) if table is not None]
    weights = [torch.arange(1, table.numel() + 1, dtype=torch.float64).cos().reshape(table.shape) for table in tables]
    sums = [float((table * weight).sum()) for table, weight in zip(tables, weights, strict=True)]
    return {"digest": result.digest(), "sums": sums, "norms": [float(table.norm()) for table in tables]}


@pytest.mark.parametrize("method", [name for name in METHODS if name not in BY_THE_CLOCK])
def test_the_rows_of_every_start(checkpoints, aids, method):
    """Bit for bit on a processor of the kind that wrote the file, to rounding elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        checkpoint, change = checkpoints["decoder", False], change_of("extend")
        initializer = resolve("initializer", method, SETTINGS.get(method, {}))
        context = context_of(checkpoint, aids, "extend", method)
        found = sketch(transplant(checkpoint, old_tokenizer(), change, initializer, context))
    finally:
        torch.set_num_threads(threads)
    path, processor = GOLDEN / "rows.json", processor_kind()
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if os.environ.get("REGRAFT_WRITE_GOLDEN"):
        known = {"processor": processor, "starts": known.get("starts", {}) | {method: found}}
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    golden = known["starts"][method]
    assert found["sums"] == pytest.approx(golden["sums"], rel=1e-3, abs=1e-3)
    assert found["norms"] == pytest.approx(golden["norms"], rel=1e-3)
    if processor == known["processor"]:
        assert found["digest"] == golden["digest"]
