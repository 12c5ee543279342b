"""`regraft adapt --ontology`: from files to a directory that plain transformers and `KTokeniser` both open."""

import importlib
import json

import pytest
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.tokenizer import Tokenizer
from regraft.vocab.k_tokeniser import KTokeniser
from toys.ontologies import DRUGS, SIGNS

importlib.import_module("regraft.cli.adapt")  # registers the verb
OBO = "format-version: 1.2\n\n" + "\n".join(f"[Term]\nid: S:{i}\nname: {name}\n" for i, name in enumerate(SIGNS))


def run(*arguments):
    return CliRunner().invoke(app, ["adapt", *map(str, arguments)])


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ontologies")
    (folder / "drugs.txt").write_text("\n".join(DRUGS), encoding="utf-8")
    (folder / "signs.obo").write_text(OBO, encoding="utf-8")
    return [f"--ontology=drugs={folder / 'drugs.txt'}", f"--ontology=signs={folder / 'signs.obo'}"]


@pytest.fixture(scope="module")
def adapted(minilm, sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "model"
    done = run(minilm, *sources, "--method", "k_tokeniser", "--set", "h0_count=2", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    return out


def test_directory_opens_everywhere(adapted, minilm):
    k = KTokeniser.from_pretrained(adapted)
    plain = AutoTokenizer.from_pretrained(adapted, trust_remote_code=False)
    model = AutoModel.from_pretrained(adapted, trust_remote_code=False)
    base = Tokenizer.from_directory(str(minilm))
    assert plain.is_fast
    assert len(plain) == len(k) == model.get_input_embeddings().num_embeddings > base.vocab_size
    text = f"the patient took {' '.join(DRUGS)}"
    assert len(k.encode(text)) < len(base.backend.encode(text).ids)
    assert KTokeniser.from_pretrained(adapted, phi=0).encode(text) == base.backend.encode(text).ids
    batch = k([text, SIGNS[0]], padding=True, return_tensors="pt")
    assert model(**batch).last_hidden_state.shape[:2] == batch["input_ids"].shape


def test_report_and_record(adapted):
    report = json.loads((adapted / "report.json").read_text())
    titles = [section["title"] for section in report["sections"]]
    assert {"Ontologies", "Where words go", "Examples by type", "Delta-sufficient sets"} <= set(titles)
    record = json.loads((adapted / "regraft.json").read_text())
    covered = record["metrics"]["coverage"]["domain"]
    assert covered["types"]["drugs"]["words"] > 0
    assert covered["rolled_back"] == 0
    shares = [part["share"] for part in covered["types"].values()]
    assert sum(shares) + covered["base_share"] == pytest.approx(1)


def test_held_out_names_are_not_learned_from(adapted):
    figures = json.loads((adapted / "k_tokeniser" / "types" / "drugs.json").read_text())["figures"]
    assert figures["phrases"] < len(set(DRUGS))


def test_dry_run_shows_counts_and_examples(minilm, sources, tmp_path):
    done = run(minilm, *sources, "--method", "k_tokeniser", "--out", tmp_path / "x", "--dry-run", "--json")
    found = json.loads(done.stdout[done.stdout.index('{"') :])["ontologies"]
    assert [row["type"] for row in found] == ["drugs", "signs"]
    assert found[0]["phrases"] == len(set(DRUGS))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "k_tokeniser"], "--ontology"),
        (["--ontology", "d=missing.txt"], "missing.txt"),
        (["--ontology", "missing.txt"], "name=path"),
        (["--ontology", "d=EMPTY"], "no phrases"),
        (["--ontology", "d=KNOWN"], "no new piece"),
        (["--ontology", "d=KNOWN", "--ontology", "D=KNOWN"], "clashes"),
        (["--ontology", "d=KNOWN", "--trim"], "exactly one"),
        (["--ontology", "d=KNOWN", "--method", "k_tokeniser", "--set", "phi=-1"], "phi"),
        ([], "exactly one"),
        (["--trim"], "no corpus"),
    ],
)
def test_bad_input_is_one_line(minilm, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").write_text("\n")
    (tmp_path / "KNOWN").write_text("a\nthe\n")
    done = run(minilm, *arguments, "--out", tmp_path / "out")
    assert done.exit_code == 2
    line = next(line for line in done.output.splitlines() if line.startswith("regraft: "))
    assert said in line
    assert not (tmp_path / "out").exists()
