"""The diagnostic: exact on layers that lie on a line, at chance on layers that do not, the same in blocks."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.errors import CheckpointError
from regraft.grow.depth import linearity as module
from regraft.grow.depth.kinds import kind_of
from regraft.grow.depth.linearity import gram, linearity
from regraft.grow.depth.stack import LayerStack
from toys import models as toys


def saved(folder, change, layers=8):
    """A Llama whose tensor of layer i is ``change(base, slope, i)`` of the tensors of its first two."""
    model = toys.llama(layers=layers)
    tensors = [dict(layer.named_parameters()) for layer in model.model.layers]
    with torch.no_grad():
        for name in tensors[0]:
            base, slope = tensors[0][name].clone(), tensors[1][name].clone() + 0.1
            for number, layer in enumerate(tensors):
                layer[name].copy_(change(base, slope, number))
    model.save_pretrained(folder)
    return LayerStack.open(Checkpoint.open(folder))


def test_layers_on_a_line_are_explained_by_it(tmp_path):
    found = linearity(saved(tmp_path, lambda base, slope, i: base + i / 8 * slope))
    assert len(found.lines) == 9
    for line in found.lines:
        assert line.linear == pytest.approx(1, abs=1e-4)
        assert line.first == pytest.approx(1, abs=1e-4)
        assert line.follows == pytest.approx(1, abs=1e-4)
        assert line.holds
        assert list(line.component) == sorted(line.component)
    assert found.holding() == 1
    assert found.linear() == pytest.approx(1, abs=1e-4)


def test_layers_in_no_order_are_at_chance(tmp_path):
    generator = torch.Generator().manual_seed(0)
    found = linearity(saved(tmp_path, lambda base, slope, i: torch.randn(base.shape, generator=generator)))
    assert found.by_chance == pytest.approx(1 / 7)
    assert found.linear() == pytest.approx(1 / 7, abs=0.02)
    assert found.holding() < 0.1
    assert min(line.p for line in found.lines) > 1 / 2001


def test_a_bend_is_not_a_line(tmp_path):
    found = linearity(saved(tmp_path, lambda base, slope, i: base + (i - 3.5) ** 2 * slope))
    assert all(line.linear < 1e-4 and line.first > 0.999 and not line.holds for line in found.lines)


def test_shares_are_those_of_least_squares(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    stack = saved(tmp_path, lambda base, slope, i: base + i * 0.05 * slope + 0.1 * torch.randn(base.shape, generator=generator))
    found = {line.tensor: line for line in linearity(stack).lines}["mlp.up_proj.weight"]
    template = next(t for t, name in stack.called.items() if name == "mlp.up_proj.weight")
    rows = np.stack([stack.checkpoint.read(layer[template]).double().flatten().numpy() for layer in stack.layers])
    fitted = np.polyfit(np.arange(8), rows, 1, full=True)
    assert found.variance == pytest.approx(((rows - rows.mean(0)) ** 2).sum())
    assert found.linear == pytest.approx(1 - fitted[1].sum() / found.variance)
    components = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert found.follows == pytest.approx(abs(np.corrcoef(components[0][:, 0], np.arange(8))[0, 1]))
    infos = [stack.checkpoint.tensors[layer[template]] for layer in stack.layers]
    whole = gram(infos)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 8 * 16 * 3)
    np.testing.assert_allclose(gram(infos), whole, atol=1e-9)


def test_layers_that_are_all_alike_claim_nothing(tmp_path):
    found = linearity(saved(tmp_path, lambda base, slope, i: base))
    assert found.holding() == 0
    assert not any(line.holds for line in found.lines)


def test_kinds_of_tensors():
    names = {"input_layernorm.weight": 1, "self_attn.q_proj.weight": 2, "mlp.up_proj.weight": 2, "ln_1.bias": 1, "attn.c_attn.bias": 1,
             "attention.output.LayerNorm.weight": 1, "output.dense.weight": 2, "layernorm_before.weight": 1}  # fmt: skip
    assert [kind_of(name, n) for name, n in names.items()] == ["norm", "attn", "mlp", "norm", "attn", "norm", "mlp", "norm"]


def test_the_verb_writes_a_page_and_figures(tmp_path):
    stack = saved(tmp_path / "model", lambda base, slope, i: base + i / 8 * slope)
    done = CliRunner().invoke(app, ["grow", "linearity", str(stack.checkpoint.path), "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["premise_holds_for"] == 1
    assert told["layers"] == 8
    kept = json.loads((tmp_path / "out" / "linearity.json").read_text())
    assert kept["by_kind"] == told["by_kind"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "premise holds" in page
    assert json.loads((tmp_path / "out" / "regraft.json").read_text())["verb"] == "grow linearity"
    again = CliRunner().invoke(app, ["grow", "linearity", str(stack.checkpoint.path), "--out", str(tmp_path / "out")])
    assert again.exit_code == 2


def test_too_few_layers_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="2 layers lie on a line in any case"):
        linearity(saved(tmp_path, lambda base, slope, i: base + i * slope, layers=2))
