"""Rows of files, tables, models and modules; choosing a run; the command line from input to result and to one line of refusal."""

import json
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.datasets.models import encoder_folder
from regraft.errors import InputError, ParameterError
from regraft.probe.probe import Measurement
from regraft.probe.probes.alignment import Alignment
from regraft.probe.probes.isoscore import IsoScore
from regraft.probe.probes.lidar import Lidar
from regraft.probe.probes.rankme import RankMe
from regraft.probe.probes.uniformity import Uniformity
from regraft.probe.spectrum.regularizers import isoscore_star_regularizer, rankme_regularizer, uniformity_regularizer
from regraft.probe.spectrum.selection import Candidate, select
from regraft.probe.spectrum.sources.hidden import hidden_states
from regraft.probe.spectrum.sources.hooks import representations
from regraft.probe.spectrum.sources.rows import open_rows
from regraft.probe.spectrum.sources.table import Table
from toys.directory import save_decoder, snapshot

Z = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 3, 16)
RANK = RankMe().measure(Z, draws=0).value


def read(rows):
    return torch.cat([block for _, block in rows.blocks()]).double()


def write_parquet(path, rows, listed):
    arrays = rows.double().numpy()
    table = pa.table({"v": list(arrays)}) if listed else pa.table({f"c{i}": column for i, column in enumerate(arrays.T)})
    pq.write_table(table, path, row_group_size=70)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "rows.npy", Z.numpy())
    np.save(tmp_path / "columns.npy", np.asfortranarray(Z.numpy()))
    np.save(tmp_path / "swapped.npy", Z.numpy().astype(">f4"))
    save_file({"z": Z, "b": torch.ones(3)}, tmp_path / "one.safetensors")
    save_file({"z": Z.bfloat16(), "y": Z}, tmp_path / "two.safetensors")
    write_parquet(tmp_path / "lists.parquet", Z, listed=True)
    write_parquet(tmp_path / "wide.parquet", Z, listed=False)
    return tmp_path


@pytest.mark.parametrize("name", ["rows.npy", "columns.npy", "swapped.npy", "one.safetensors", "lists.parquet", "wide.parquet"])
def test_every_kind_of_file_gives_its_rows_in_blocks(files, name, monkeypatch):
    monkeypatch.setattr("regraft.probe.spectrum.sources.rows.ENTRIES", 16 * 47)
    rows = open_rows(files / name)
    assert (rows.count, rows.dim) == (300, 16)
    torch.testing.assert_close(read(rows), Z.double())
    torch.testing.assert_close(read(rows), Z.double())  # as often as is needed
    assert RankMe().measure(rows, draws=0).value == pytest.approx(RANK, rel=1e-9)


def test_a_key_names_a_tensor_and_bfloat16_is_read(files):
    torch.testing.assert_close(read(open_rows(files / "two.safetensors", "z")), Z.bfloat16().double())
    torch.testing.assert_close(read(open_rows(files / "lists.parquet", "v")), Z.double())


def test_what_is_no_file_of_rows_is_refused_in_one_line(files):
    np.save(files / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.save(files / "line.npy", np.ones(4))
    np.save(files / "empty.npy", np.ones((0, 4)))
    (files / "cut.npy").write_bytes((files / "rows.npy").read_bytes()[:200])
    (files / "noise.parquet").write_bytes(b"PAR1 not at all")
    (files / "noise.safetensors").write_bytes(b"xx")
    (files / "text.npy").write_text("1 2 3")
    (files / "notes.txt").write_text("1 2 3")
    pq.write_table(pa.table({"v": [[1.0, 2.0], [3.0]]}), files / "ragged.parquet")
    pq.write_table(pa.table({"v": [1.0, 2.0], "name": ["a", "b"]}), files / "named.parquet")
    for name, key, says in (
        ("gone.npy", None, "no such file"),
        ("notes.txt", None, "not a kind of file that holds rows"),
        ("objects.npy", None, "cannot be read as .npy"),
        ("cut.npy", None, "cannot be read as .npy .*: save a plain array of numbers with numpy.save"),
        ("text.npy", None, "cannot be read as .npy .it does not begin as one.: save the array with numpy.save"),
        ("rows.npy", "z", "--key z: a .npy holds one array"),
        ("line.npy", None, r"of shape \(4,\) and type float64"),
        ("empty.npy", None, "0 rows of 4 columns"),
        ("noise.parquet", None, "cannot be read as Parquet"),
        ("ragged.parquet", None, "lists of different lengths"),
        ("named.parquet", None, "not all numbers"),
        ("wide.parquet", "v", "has no column 'v'"),
        ("noise.safetensors", None, "truncated or not a safetensors file"),
        ("two.safetensors", None, r"2 tensors with two axes \(y, z\): name one with --key"),
        ("two.safetensors", "x", "has no tensor 'x': it has y, z"),
        ("one.safetensors", "b", r"of shape \(3,\)"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            open_rows(files / name, key)
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_decoder(tmp_path_factory.mktemp("probe") / "model")


def test_rows_of_a_table_that_say_nothing_are_found(model):
    table = Table.open(model)
    assert table.rows.count == 304
    assert table.special.tolist() == [0, 1]
    assert {300, 301, 302, 303} <= set(table.unused.tolist())  # padding
    assert not set(table.unused.tolist()) & {0, 1}


def test_placeholders_of_a_real_encoder_are_not_measured():
    table = Table.open(encoder_folder())
    assert (table.rows.count, len(table.special), len(table.unused)) == (30522, 5, 994)
    assert len(table.undertrained)


def test_hidden_states_are_the_models_own(model, tmp_path):
    texts = ["the cat sat on a mat", "an old map", "a rat ran past the land and far past that hat"]
    (tmp_path / "t.txt").write_text("\n".join(texts))
    checkpoint = Checkpoint.open(model)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    live, reads = AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    with torch.no_grad():
        expected = [live(**reads(t, return_tensors="pt"), output_hidden_states=True).hidden_states[1][0] for t in texts]
    found = hidden_states(checkpoint, [tmp_path / "t.txt"], layer=1)
    torch.testing.assert_close(found, torch.stack([states.mean(0) for states in expected]), atol=1e-5, rtol=1e-5)
    tokens = hidden_states(checkpoint, [tmp_path / "t.txt"], layer=1, pool="tokens", limit=9)
    torch.testing.assert_close(tokens, torch.cat(expected)[:9], atol=1e-5, rtol=1e-5)
    with pytest.raises(ParameterError, match="hidden states 0 to 2"):
        hidden_states(checkpoint, [tmp_path / "t.txt"], layer=7)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.projector, self.spare = nn.Linear(16, 8), nn.Linear(8, 4), nn.Linear(2, 2)

    def forward(self, x):
        return self.projector(self.encoder(x))


def test_a_hook_reads_a_module_by_name():
    net = Net().train()
    loader = [(part, torch.zeros(len(part))) for part in torch.split(Z, 64)]
    for name, expected in (("encoder", net.encoder(Z)), ("projector", net(Z)), ("", net(Z))):
        found = representations(net, loader, module=name)
        assert (found.module, found.rows.requires_grad) == (name, False)
        torch.testing.assert_close(found.rows, expected.detach())
    assert len(representations(net, loader, limit=100).rows) == 100
    assert net.training
    assert not net.encoder._forward_hooks
    for bad, batches, says in (
        ("head", loader, "no module 'head' in Net: it has encoder, projector, spare"),
        ("spare", loader, "was not reached"),
        ("encoder", [], "no batches"),
    ):
        with pytest.raises(ParameterError, match=says):
            representations(net, batches, module=bad)
    deep = representations(nn.Identity(), [torch.arange(24.0).view(2, 3, 4)], pool="mean")
    assert deep.rows.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def run_of(name, value, half=0.5, rows=1000, dim=16, module="projector"):
    rank = Measurement(name="rankme", value=value, unit="dimensions", read="", interval=(value - half, value + half))
    return Candidate(name, rank, rows, dim, module)


def test_the_papers_rule_of_selection():
    swept = [run_of("a", 5), run_of("b", 9.8), run_of("c", 10), run_of("d", 9.7), run_of("e", 4), run_of("f", 9.9)]
    assert select(swept).name == "c"
    assert select(swept).level == ("b", "c", "d", "f")
    assert select(swept, ordered="smallest").name == "b"
    assert select(swept, ordered="largest").name == "d"  # f is level, but another plateau
    assert select(swept, ordered="largest", tolerance=0.0).name == "c"
    assert select([run_of("z", 3), run_of("y", 3)]).name == "y"  # ties by name


def test_runs_that_do_not_compare_are_refused():
    for other, says in (
        (run_of("b", 3, dim=32), "ranks of different K do not compare"),
        (run_of("b", 3, module="encoder"), "measure one module of all"),
        (run_of("b", 3, rows=70), "give all runs the same"),
        (run_of("b", math.nan), "has no rank"),
        (run_of("a", 3), "two runs have one name"),
    ):
        with pytest.raises(ParameterError, match=says):
            select([run_of("a", 2), other])
    with pytest.raises(ParameterError, match="no runs"):
        select([])
    assert "different numbers of rows" in select([run_of("a", 2), run_of("b", 3, rows=900)]).notes[0]


def test_regularizers_are_the_measures_and_have_gradients():
    rows = Z.double().requires_grad_()
    for made, probe in (
        (rankme_regularizer(rows), RankMe()),
        (isoscore_star_regularizer(rows, zeta=0.0), IsoScore()),
        (isoscore_star_regularizer(rows, zeta=0.3), IsoScore(zeta=0.3)),
        (uniformity_regularizer(rows), Uniformity()),
    ):
        assert float(made.detach()) == pytest.approx(probe.measure(Z.double(), draws=0).value, rel=1e-6)
        (gradient,) = torch.autograd.grad(made, rows)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def run(*arguments):
    return CliRunner().invoke(app, ["probe", *[str(argument) for argument in arguments]])


def refused(result, says):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("regraft: ")]
    assert len(lines) == 1
    assert result.stdout == ""
    assert re.search(says, lines[0]), lines[0]


def test_the_verb_from_a_table_to_a_page(model, tmp_path):
    before = snapshot(model)
    result = run("spectrum", model, "--json", "--draws", 5, "--out", tmp_path / "out")
    found = json.loads(result.stdout)
    assert snapshot(model) == before
    assert found["left_out"]["special"] == 2
    assert found["rows"] == 304 - sum(found["left_out"].values())
    measures = {one["name"]: one for one in found["measures"]}
    assert len(measures) >= 12
    everything = RankMe().measure(Checkpoint.open(model).read("model.embed_tokens.weight"), draws=0).value
    assert measures["rankme"]["with_all_rows"] == pytest.approx(everything, rel=1e-9)
    assert measures["rankme"]["value"] != pytest.approx(everything, rel=1e-6)
    assert measures["rankme"]["interval"][0] < measures["rankme"]["value"]
    assert found["undertrained"]["count"] == len(found["undertrained"]["ids"]) > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["measures.json", "regraft.json", "report.html"]
    assert "alpha = " in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "regraft.json").read_text())["verb"] == "probe"
    shown = run("spectrum", model, "--every-row", "--draws", 0)
    assert shown.exit_code == 0
    assert "rankme" in shown.stdout


def test_the_verb_on_a_file_and_on_hidden_states(files, model):
    found = json.loads(run("spectrum", files / "two.safetensors", "--key", "y", "--json", "--leave-out", "0,299").stdout)
    expected = RankMe().measure(Z[1:299], draws=0).value
    assert next(one["value"] for one in found["measures"] if one["name"] == "rankme") == pytest.approx(expected, rel=1e-9)
    (files / "t.txt").write_text("\n".join(f"the cat sat on a mat {i} times past an old map" for i in range(40)))
    found = json.loads(run("spectrum", model, "--layer", 2, "--text", files / "t.txt", "--pool", "tokens", "--json", "--draws", 3).stdout)
    assert found["kind"] == "hidden states of layer 2, tokens"
    assert found["rows"] > 40


def test_the_verb_on_views_of_samples(files):
    ids = np.repeat(np.arange(150), 2)
    (files / "ids.txt").write_text(" ".join(map(str, ids)))
    found = json.loads(run("spectrum", files / "rows.npy", "--samples", files / "ids.txt", "--json", "--draws", 5).stdout)
    measures = {one["name"]: one["value"] for one in found["measures"]}
    assert measures["lidar"] == pytest.approx(Lidar().measure(Z.view(150, 2, 16), draws=0).value, rel=1e-9)
    assert measures["alignment"] == pytest.approx(Alignment().measure(Z[::2], Z[1::2]).value, rel=1e-9)
    (files / "threes.txt").write_text(" ".join(map(str, np.repeat(np.arange(100), 3))))
    found = json.loads(run("spectrum", files / "rows.npy", "--samples", files / "threes.txt", "--json", "--draws", 0).stdout)
    assert "alignment" not in {one["name"] for one in found["measures"]}


def test_the_verb_chooses_a_run(files):
    for name, scale in (("low.npy", 0.1), ("high.npy", 1.0)):
        np.save(files / name, (Z * torch.cat([torch.ones(8), torch.full((8,), scale)])).numpy())
    found = json.loads(run("compare", files / "low.npy", files / "high.npy", "--json", "--out", files / "out").stdout)
    assert (found["picked"], found["level"]) == ("high.npy", ["high.npy"])
    assert [row["run"] for row in found["runs"]] == ["low.npy", "high.npy"]
    assert (files / "out" / "report.html").is_file()
    np.save(files / "narrow.npy", Z[:, :8].numpy())
    refused(run("compare", files / "low.npy", files / "narrow.npy"), "ranks of different K do not compare")
    refused(run("compare", files / "low.npy"), "give two or more")
    refused(run("compare", files / "low.npy", files / "high.npy", "--ordered", "up"), "choose no, smallest or largest")


def test_what_the_verb_refuses_leaves_nothing(files, model):
    broken = Z.clone()
    broken[123, 4] = math.inf
    np.save(files / "broken.npy", broken.numpy())
    np.save(files / "zero.npy", np.zeros((40, 4)))
    np.save(files / "huge.npy", Z.double().numpy() * 1e300)
    before = sorted(path.name for path in files.iterdir())
    out = ("--out", files / "out")
    for arguments, says in (
        (("broken.npy", *out), "row 123 has NaN or infinity"),
        (("huge.npy", *out), "too large to square: divide the rows by it"),
        (("gone", *out), "no such directory"),
        (("gone.npy", *out), "no such file"),
        (("rows.npy", "--leave-out", "300", *out), "rows 0 to 299"),
        (("rows.npy", "--leave-out", "a,b", *out), "write whole numbers as 0,1,2"),
        (("rows.npy", "--samples", "0,1,2", *out), "3 ids for 300 rows"),
        (("rows.npy", "--layer", "1", "--text", "x", *out), "is a file of rows"),
        ((model, "--layer", "1", *out), "both --layer and --text"),
        ((model, "--key", "z", *out), "only for files"),
        (("rows.npy", "--pool", "max", *out), "choose mean or tokens"),
    ):
        source = arguments[0] if arguments[0] in (model, "gone") else files / arguments[0]
        refused(run("spectrum", source, *arguments[1:]), says)
    zero = json.loads(run("spectrum", files / "zero.npy", "--json").stdout)
    assert next(one["value"] for one in zero["measures"] if one["name"] == "rankme") is None
    assert any("all rows are zero" in note for note in zero["notes"])
    assert sorted(path.name for path in files.iterdir()) == before


def test_rows_that_are_all_zero_have_a_page(files):
    np.save(files / "zeros.npy", np.zeros((40, 4)))
    done = run("spectrum", files / "zeros.npy", "--out", files / "zeros", "--draws", "3")
    assert done.exit_code == 0
    assert "all rows are zero" in (files / "zeros" / "report.html").read_text(encoding="utf-8").lower()
