"""The smallest trainer that goes through the stages of a table: logistic labels of ids, a linear head."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

RATE, SEARCH_RATE = 0.02, 0.05


class Logistic(nn.Module):
    """Logits (b,) of ids (b,) or (b, fields): a linear reading of rows, summed over fields."""

    def __init__(self, table, dim):
        super().__init__()
        self.table, self.head = table, nn.Linear(dim, 1)

    def forward(self, ids):
        return self.head(self.table(ids)).reshape(len(ids), -1).sum(1)


def steps_of(
    table, loss_of: Callable[[], torch.Tensor], steps: int, more=(), search: Callable[[], torch.Tensor] | None = None
) -> Iterator[None]:
    """Steps on `loss_of`, and on `search` in turn for what is searched."""
    apart = {id(one) for one in [*table.moved(), *table.architecture()]}
    weights = [one for one in [*table.parameters(), *more] if id(one) not in apart]
    optimizer = torch.optim.Adam(weights, RATE) if weights else None
    searching = torch.optim.SGD(table.architecture(), SEARCH_RATE) if search and table.architecture() else None
    for _ in range(steps):
        table.zero_grad()
        for one in more:
            one.grad = None
        (loss_of() + table.extra_loss()).backward()
        if optimizer:
            optimizer.step()
        table.after_step()
        if table.again():
            (loss_of() + table.extra_loss()).backward()
            table.after_step()
        if searching and search:
            table.zero_grad()
            (search() + table.extra_loss()).backward()
            searching.step()
        yield


def trained(table, ids, logit_of, steps=40, seen=None):
    """`table` after all its stages on labels of `ids`; `seen` is called with it after each step. Evaluated as it then stands."""
    model = Logistic(table, table.embedding_dim).train()
    started = deepcopy(model.head.state_dict())
    labels = (logit_of(ids) > 0).float()
    half = len(ids) // 2

    def loss(part):
        return binary_cross_entropy_with_logits(model(ids[part]), labels[part])

    @torch.no_grad()
    def quality():
        model.eval()
        found = -float(loss(slice(half, None)))
        model.train()
        return found

    for stage in table.stages:
        if stage.fresh:
            model.head.load_state_dict(started)
        table.begin(stage.name, steps)
        search = (lambda: loss(slice(half, None))) if stage.searches else None
        for _ in steps_of(table, lambda: loss(slice(None, half)), steps, tuple(model.head.parameters()), search):
            if seen:
                seen(table)
        table = model.table = table.advance(stage.name, quality).train()
    return table
