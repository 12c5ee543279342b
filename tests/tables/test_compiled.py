"""Every compressed table under `torch.compile` and under autocast: the same rows, the same codes, the same gradients."""

import pytest
import torch

from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.embeddings.prune import PruneEmbedding
from tables.test_contract import METHODS, D, made

IDS = torch.tensor([[5, 0, 599], [5, 5, 17]])


def same_compiled(cls, backend):
    """Compare rows and gradients of a table as it serves with those of the compiled one, for two shapes of ids."""
    torch._dynamo.reset()
    table = made(cls).eval().export()
    learns, found = bool(list(table.parameters())), []
    for one in (table, torch.compile(table, backend=backend)):
        table.zero_grad()
        rows = [one(IDS), one(IDS[:1, :2])]
        if learns:
            sum(part.square().sum() for part in rows).backward()
        found.append([*(part.detach() for part in rows), *(p.grad.clone() for p in table.parameters() if p.grad is not None)])
    assert len(found[0]) > 2 or not learns
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("cls", [HashEmbedding, PruneEmbedding], ids=lambda cls: cls.name)
def test_compiled(cls):
    same_compiled(cls, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_each_compiled(cls):
    same_compiled(cls, "aot_eager")


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_each_under_autocast(cls):
    table = made(cls).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = table(torch.arange(64))
        loss = (rows * torch.randn(D)).sum() + table.extra_loss()
    assert rows.isfinite().all()
    if rows.requires_grad:
        loss.backward()
        table.after_step()
        assert all(p.grad.isfinite().all() and p.isfinite().all() for p in table.parameters() if p.grad is not None)
    table = made(cls).eval()
    with torch.no_grad():
        wanted = table(IDS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.allclose(table(IDS).float(), wanted, atol=0.03 * float(wanted.abs().max()))
