"""Taking a split model apart, and putting classes on: nothing here trains.

Enters: a gated `Split`. Leaves: another, of some of its classes, of one as an ordinary dense model, or of its classes and new ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from regraft.concepts.split.layers.gated import gated
from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.model import TABLE, Split, rebuilt
from regraft.errors import ParameterError


def places(split: Split, names: Sequence[str]) -> list[int]:
    """Ids of classes. Raises `ParameterError`: one that the model does not have, or one twice."""
    lost = [name for name in names if name not in split.names]
    if lost:
        raise ParameterError(f"class {lost[0]!r}: the model has {', '.join(split.names)}")
    if len(set(names)) < len(names):
        raise ParameterError(f"classes {', '.join(names)}: each once")
    return [split.names.index(name) for name in names]


def extract(split: Split, names: Sequence[str]) -> Split:
    """The learngenes and the tailors of `names` alone, in that order. The others leave without a trace; no class is what it was."""
    partition, ids = _partition(split), places(split, names)
    size = partition.families[0][1]
    columns = torch.cat([torch.arange(size) + size * one for one in ids]) if ids else torch.arange(0)
    state = {name: _taken(name, one, columns, [*ids, len(split.names)]) for name, one in split.transformer.state_dict().items()}
    return rebuilt(split, tuple(names), Partition.by_class(partition.learngenes, len(names), size), state)


def without(split: Split, name: str) -> Split:
    """All classes but one."""
    places(split, [name])
    return extract(split, [one for one in split.names if one != name])


def dense(split: Split, name: str) -> Split:
    """One class as an ordinary DiT, whose weights are multiplied out. It has that class alone: draw without guidance."""
    (label,), partition = places(split, [name]), _partition(split)
    state = dict(split.transformer.state_dict())
    for place, layer in gated(split.transformer).items():
        for part in ("learngenes", "tailors"):
            for factor in "USV":
                del state[f"{place}.{part}.{factor}"]
        state[f"{place}.weight"] = layer.weight(partition.block(label))
    state = {key: one[[label, len(split.names)]] if key.endswith(TABLE) else one for key, one in state.items()}
    return rebuilt(split, (name,), None, state)


def merged(old: Split, new: Split) -> Split:
    """The classes of `old` and those of `new`, which has the same learngenes. Raises `ParameterError`: others, or a name twice."""
    first, second = _partition(old), _partition(new)
    if twice := set(old.names) & set(new.names):
        raise ParameterError(f"class {sorted(twice)[0]!r} is there already: give the new one another name")
    if first.families[0][1] != second.families[0][1]:
        raise ParameterError(f"tailors of {first.families[0][1]} and {second.families[0][1]} components a class do not go into one model")
    state, added, whole = old.transformer.state_dict(), new.transformer.state_dict(), dict[str, Tensor]()
    for name, one in state.items():
        other = added[name]
        if ".tailors." in name:
            whole[name] = torch.cat([one, other], dim=-1)
        elif name.endswith(TABLE):
            whole[name] = torch.cat([one[:-1], other[:-1], one[-1:]])
        elif torch.equal(one, other):
            whole[name] = one
        else:
            raise ParameterError(f"{name}: differs between the two models: only ones with the same learngenes go together")
    names = (*old.names, *new.names)
    return rebuilt(old, names, Partition.by_class(first.learngenes, len(names), first.families[0][1]), whole)


def renewed(split: Split, names: Sequence[str], *, tailors: int | None = None, like: Sequence[int | None] = (), seed: int = 0) -> Split:
    """The learngenes of `split`, or all of a plain one, with other classes that are not learned yet.

    Vectors of classes are drawn with the spread of the old ones; tailors are components of random matrices, as in the beginning. `like` :
    for each new class an old one to begin as instead, or None. `tailors` : components a class, by default as many as there were.
    """
    generator, classes, old = torch.Generator().manual_seed(seed), len(names), split.names
    partition, state = split.partition, dict(split.transformer.state_dict())
    size = partition.families[0][1] if partition and tailors is None else tailors or 0
    for key, one in state.items():
        if key.endswith(TABLE):
            rows = one.mean(0) + one.std(0) * torch.randn(classes, one.shape[1], generator=generator)
            for place, model in enumerate(like):
                if model is not None:
                    rows[place] = one[model]
            state[key] = torch.cat([rows, one[len(old) :]])
    if partition is None:
        return rebuilt(split, tuple(names), None, state)
    new = Partition.by_class(partition.learngenes, classes, size)
    for name, layer in gated(split.transformer).items():
        fresh = [_random(layer.out_features, layer.in_features, size, generator) for _ in names]
        for number, model in enumerate(like):
            if model is not None:
                block = partition.block(model)
                fresh[number] = (layer.tailors.U[:, block].detach(), layer.tailors.S[block].detach(), layer.tailors.V[:, block].detach())
        for factor, parts in zip("USV", zip(*fresh, strict=True), strict=True):
            state[f"{name}.tailors.{factor}"] = torch.cat(parts, dim=-1)
    return rebuilt(split, tuple(names), new, state)


def _random(m: int, n: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Some components of a random matrix, as `nn.Linear` draws one."""
    weight = (torch.rand(m, n, generator=generator) * 2 - 1) / n**0.5
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    if count > len(S):
        raise ParameterError(f"{count} tailors a class: the matrices have {len(S)} components")
    order = torch.randperm(len(S), generator=generator)[:count]
    return U[:, order], S[order], Vh.T[:, order]


def _taken(name: str, one: Tensor, columns: Tensor, rows: list[int]) -> Tensor:
    if ".tailors." in name:
        return one[..., columns]
    return one[rows] if name.endswith(TABLE) else one


def _partition(split: Split) -> Partition:
    if split.partition is None:
        raise ParameterError("a plain model has no learngenes and tailors: give one that `regraft concept split train` wrote")
    return split.partition
