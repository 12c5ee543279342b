"""The command line from a folder of code to a page, and to one line of refusal; the way in from Python; the guide."""

import json
import re
import shlex
from pathlib import Path

import pytest
import transformers
from safetensors import safe_open
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import ParameterError
from regraft.method import resolve
from regraft.probe.probes.ast_probe import ASTProbe
from regraft.probe.probes.ast_probe.encoding import Tree
from regraft.probe.probes.ast_probe.snippets import read_functions, source_files
from regraft.probe.report.syntax_picture import tree_picture
from toys.directory import save_decoder, snapshot

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "probe-syntax.md"
FAST = ("--rank", 4, "--set", "epochs=2", "--set", "lr=0.01")


def write_python(folder, files=8):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(files):
        text = f'def add{n}(a, b):\n    """Adds."""\n    return a + b * {n}\n\n\ndef loop{n}(items):\n    for item in items:\n'
        text += f"        if item == {n}:\n            break\n    return [item, {n}]\n\n\ndef bad{n}(a):\n    return g(a={n}, b)\n"
        (folder / f"m{n}.py").write_text(text)
    return folder


def write_go(folder, files=6):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(files):
        (folder / f"m{n}.go").write_text(
            f"package p\n\nfunc Add{n}(a int, b int) int {{\n\tx := a + b*{n}\n\treturn x\n}}\n\nfunc Say{n}() {{\n\tf(\"s{n}\")\n}}\n"
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_decoder(tmp_path_factory.mktemp("syntax") / "model")


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return write_python(tmp_path_factory.mktemp("syntax-code") / "src")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("syntax-cache")


def run(*arguments):
    return CliRunner().invoke(app, ["probe", "syntax", *[str(argument) for argument in arguments]])


def refused(result, says):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("regraft: ")]
    assert len(lines) == 1
    assert result.stdout == ""
    assert re.search(says, lines[0]), lines[0]


def test_from_code_to_a_page(model, code, cache, tmp_path):
    before = snapshot(model), snapshot(code)
    result = run(model, "--code", code, *FAST, "--ranks", "2,8", "--cache", cache, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (snapshot(model), snapshot(code)) == before
    (python,) = found["languages"]
    assert python["skipped"] == {"Python itself refuses it": 8}
    assert sum(python["functions"].values()) == 16
    assert all(python["files"].values())
    assert set(python["grammar"]) == {"tree-sitter", "tree-sitter-python"}
    assert [(one["layers"], one["layer"]) for one in python["layers"]] == [
        ("learned", 0), ("learned", 1), ("learned", 2), ("random layers", 1), ("random layers", 2),
    ]  # fmt: skip
    for one in [*python["layers"], *python["ranks"]]:
        assert one["interval"][0] <= one["f1"] <= one["interval"][1]
        assert one["off_orthogonal"] > 0
    assert [one["rank"] for one in python["ranks"]] == [2, 8]
    assert python["label_recall"]["module"]["there"] == python["functions"]["test"]
    assert found["causal"]
    assert "to its left" in found["answer"]
    assert found["method"]["epochs"] == 2
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["figures.json", "probe-python.safetensors", "regraft.json", "report.html"]
    page = (tmp_path / "out" / "report.html").read_text()
    for part in ("F1 over layers", "F1 over the rank", "A tree, rebuilt from layer", "Recall by label", "<svg", "layer 0: the input"):
        assert part in page
    made = json.loads((tmp_path / "out" / "regraft.json").read_text())
    assert (made["verb"], made["method"]["name"], len(made["corpus"]["sha256"])) == ("probe", "ast-probe", 64)
    with safe_open(tmp_path / "out" / "probe-python.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["B", "V_c", "V_u"]
        assert file.get_slice("V_c").get_shape()[1] == len(json.loads(file.metadata()["constituents"])) == python["labels"]["constituents"]


def test_a_second_run_takes_over_what_is_finished(model, code, cache, monkeypatch):
    arguments = (model, "--code", code, *FAST, "--layers", "1", "--cache", cache, "--json")
    first = json.loads(run(*arguments).stdout)
    for name in ("states.hidden_states", "train.tree_loss"):
        monkeypatch.setattr(f"regraft.probe.probes.ast_probe.{name}", lambda *a, **k: pytest.fail("made again"))
    monkeypatch.setattr("regraft.probe.probes.ast_probe.train.validation_loss", lambda *a, **k: pytest.fail("trained again"))
    assert json.loads(run(*arguments).stdout) == first


def test_without_controls_the_answer_says_what_is_missing(model, code, cache):
    result = run(model, "--code", code, *FAST, "--layers", "-1", "--no-controls", "--cache", cache)
    assert result.exit_code == 0, result.output
    assert "without controls" in " ".join(result.stdout.split())
    assert "random layers" not in result.stdout


def test_two_languages_are_compared(model, cache, tmp_path):
    write_python(tmp_path / "src" / "a")
    write_go(tmp_path / "src" / "b")
    (tmp_path / "src" / "one.js").write_text("function f(a) { return a; }\n")
    result = run(model, "--code", tmp_path / "src", *FAST, "--layers", "1,2", "--cache", cache, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [one["language"] for one in found["languages"]] == ["python", "go"]
    assert any("javascript was left out" in note and "from 1 file" in note for note in found["notes"])
    for row in found["between_languages"]:
        assert 0 < row["mean_angle"] < 90
        assert 0 < row["mean_angle_random"] < 90
        assert row["interval"][0] <= row["f1_transferred"] <= row["interval"][1]
    assert [(row["language"], row["projection_of"]) for row in found["between_languages"]] == [("python", "go"), ("go", "python")]
    assert "Between languages" in (tmp_path / "out" / "report.html").read_text()
    only = json.loads(run(model, "--code", tmp_path / "src", *FAST, "--language", "go", "--layers", "1", "--cache", cache, "--json").stdout)
    assert [one["language"] for one in only["languages"]] == ["go"]


def test_what_is_refused_leaves_nothing(model, code, cache, tmp_path):
    (tmp_path / "empty").mkdir()
    one = write_python(tmp_path / "one", files=1)
    broken = tmp_path / "broken"
    broken.mkdir()
    for n in range(4):
        (broken / f"m{n}.py").write_text(f"def f{n}(a:\n    retrun (\n")
    words = tmp_path / "words"
    words.mkdir()
    (words / "m.py").write_text("x = 1\n")
    before = snapshot(tmp_path)
    out = ("--out", tmp_path / "out", "--cache", cache)
    for arguments, says in (
        (("--code", tmp_path / "gone"), "no such file or folder"),
        (("--code", tmp_path / "empty"), "no source files there"),
        (("--code", code, "--language", "go"), "no go files there"),
        (("--code", code, "--language", "cobol"), "choose one of python, javascript, go"),
        (("--code", one, *FAST), "come from 1 file: .* at least 3 files"),
        (("--code", one / "m0.py", *FAST), "come from 1 file"),
        (("--code", broken, *FAST), r"no function that can be used \(.*file in which tree-sitter finds errors"),
        (("--code", words, *FAST), r"no function that can be used \(none was found\)"),
        (("--code", code, "--rank", 17), "rank 17 is above the model's width of 16"),
        (("--code", code, *FAST, "--ranks", "4,99"), "rank 99 is above"),
        (("--code", code, *FAST, "--layers", "0,9"), "--layers 9: the model has hidden states 0 to 2"),
        (("--code", code, "--layers", "all,2"), "write numbers as 0,3,6"),
        (("--code", code, *FAST, "--ranks", "0"), "ranks are 1 or more"),
        (("--code", code, *FAST, "--max-length", 3), "longer than the model reads or --max-length allows"),
        (("--code", code, "--set", "depth=3"), "has no parameter 'depth'"),
        (("--code", code, "--set", "lr=-1"), "lr=-1 is not accepted"),
        (("--code", code, *FAST, "--device", "moon"), "--device moon"),
    ):
        refused(run(model, *arguments, *out), says)
    refused(run(tmp_path / "empty", "--code", code, *out), "empty")
    assert snapshot(tmp_path) == before


def test_measurements_from_python(model, code):
    live = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    snippets = read_functions(source_files(code)["python"], "python").snippets
    found = ASTProbe(rank=4, epochs=2).measure(live, tokenizer, snippets, layers=[-1])
    assert [one.name for one in found] == ["ast-probe, layer 0", "ast-probe, layer 2", "ast-probe, layer 2 under random layers"]
    assert all(one.unit == "macro F1" and one.interval[0] <= one.value <= one.interval[1] for one in found)
    assert [one.value for one in ASTProbe(rank=4, epochs=2).measure(live, tokenizer, snippets, layers=[-1])] == [one.value for one in found]
    released = resolve("probe", "ast-probe", {"rank": 4, "epochs": 1, "compat": "released"})
    assert len(released.measure(live, tokenizer, snippets, layers=[1], controls=False)) == 1
    with pytest.raises(ParameterError, match="rank 17"):
        ASTProbe(rank=17).measure(live, tokenizer, snippets)
    assert ASTProbe.parameters() == {
        "rank": 128, "orthogonality": 5.0, "lr": 1e-3, "batch": 32, "epochs": 20, "patience": 5, "compat": None,
    }  # fmt: skip


def test_the_commands_of_the_guide_run(model, cache, tmp_path, monkeypatch):
    """On a toy model and a small folder, with fewer epochs and a rank that fits: every command and the Python block, in order."""
    text = GUIDE.read_text("utf-8")
    write_python(tmp_path / "src")
    write_go(tmp_path / "both" / "go")
    write_python(tmp_path / "both" / "python")
    (tmp_path / "where.txt").write_text(str(model))
    monkeypatch.chdir(tmp_path)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line.startswith("regraft ")]
    assert len(commands) >= 3
    for command in commands:
        words = shlex.split(command.replace("$(cat where.txt)", str(model)))[1:]
        fits = ["--rank", "4", "--set", "epochs=1", "--cache", str(cache)]
        words = [re.sub(r"^8,16,32,64,128$", "2,4", word) for word in words]
        result = CliRunner().invoke(app, words + fits)
        assert result.exit_code == 0, (command, result.output)
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(block.replace("ASTProbe()", "ASTProbe(rank=4, epochs=1)").replace("layers=[0, 3, 6]", "layers=[0, 1]"), {})


def test_labels_beside_each_other_do_not_meet():
    tree = Tree("module", (Tree("default_parameter", ("x", ")")), Tree("tuple_pattern", (":", "x"))))
    picture = tree_picture("Rebuilt", tree, ("x", ")", ":", "x"), [])
    placed = [
        (float(x), float(y), label) for x, y, label in re.findall(r'<text x="([-\d.]+)" y="([-\d.]+)" class="label \w+">(.*?)<', picture)
    ]
    (left, level, first), (right, same, second) = sorted(placed, key=lambda label: label[1])[-2:]
    assert {first, second} == {"default_parameter ✗", "tuple_pattern ✗"}
    assert level == same
    assert abs(right - left) > 6.6 * (len(first) + len(second)) / 2  # a letter of 11 pixels is 6.6 wide
