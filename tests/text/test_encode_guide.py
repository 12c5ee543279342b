"""The guide's commands, as they stand, on a toy."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from regraft.cli import app
from toys import models

GUIDE = Path(__file__).parents[2] / "docs/guides/text-encode.md"


def commands():
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("regraft ")]


def on_a_toy(word):
    """Layers and dimensions that a toy has, and a file of pairs in place of STS."""
    return word.replace("layer=28", "layer=4").replace("64", "8").replace("256", "40").replace("sts", "pairs.csv")


def test_every_command_of_the_guide_runs(llama_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smollm2").symlink_to(llama_folder)
    texts = models.texts(12)
    Path("texts.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    Path("pairs.csv").write_text("sentence1,sentence2,score\n" + "".join(f"{texts[at]},{texts[at + 1]},{at % 5}\n" for at in range(10)))
    called = commands()
    assert len(called) == 7
    for command in called:
        done = CliRunner().invoke(app, [*map(on_a_toy, command)])
        assert done.exit_code == 0, (command, done.output)
    rows = {file: np.load(file) for file in ("vectors.npy", "short.npy", "bytes.npy", "bits.npy", "documents.npy", "passages.npy")}
    assert rows["vectors.npy"].shape == (12, 16)
    np.testing.assert_allclose(np.linalg.norm(rows["short.npy"], axis=1), 1, atol=1e-5)
    assert (rows["bytes.npy"].dtype, rows["bits.npy"].shape) == (np.int8, (12, 2))
    assert len(rows["documents.npy"]) == 12
    assert len(rows["passages.npy"]) == sum(json.loads(Path("passages.json").read_text())["chunks"]) > 12
    np.testing.assert_allclose(SentenceTransformer("encoder", device="cpu").encode(texts), rows["vectors.npy"], atol=1e-4)
    assert "prompt-eol" in Path("compared/comparison.html").read_text("utf-8")
