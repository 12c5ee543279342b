"""Embedding tables as coordinates times primitives: the split, and the modules that train it.

Enters: a table E (n, d). Leaves: coordinates F (n, r) and primitives P (r, d) with F P the best table of rank r; or a `transformers` model
whose embedding and head hold F and P instead of E, share them where the tables are tied, and turn back into ordinary ones (`densify`).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call

from regraft.errors import ParameterError
from regraft.graft import iterate_blocks

Split = Literal["paper", "balanced"]
KEY = "regraft_factorised"  # in config.json of a factorised checkpoint
BLOCK = 8192
SMALLEST = 1e-10  # singular values below this share of the largest are zero: their coordinates would be rounding errors


@dataclass(frozen=True)
class Factors:
    """`coordinates` (n, r) and `primitives` (r, d), in the table's dtype; all of its `singular_values` (d,), float64, descending."""

    coordinates: torch.Tensor
    primitives: torch.Tensor
    singular_values: torch.Tensor

    @property
    def rank(self) -> int:
        return int(self.primitives.shape[0])


def factorise(table: torch.Tensor, rank: int, split: Split = "paper") -> Factors:
    r"""Thin SVD of `table` (n, d), not centred, cut at `rank`: :math:`E = U S V^\top \approx F P`.

    "paper": :math:`F = U_r`, :math:`P = S_r V_r^\top`. "balanced": :math:`F = U_r S_r^{1/2}`, :math:`P = S_r^{1/2} V_r^\top`. The
    entries of U have a root mean square of :math:`n^{-1/2}`, so a step of Adam moves them by a large share unless the factors are balanced.

    The decomposition is that of :math:`E^\top E`, summed in float64 block by block, so memory is that of the two factors. Directions whose
    singular value is below 1e-10 of the largest get coordinates of zero.

    Raises `ParameterError` unless 1 <= rank <= min(n, d).
    """
    n, d = table.shape
    if not 1 <= rank <= min(n, d):
        raise ParameterError(f"rank={rank}: the table has {n} rows of {d} numbers: choose 1 to {min(n, d)}")
    gram = torch.zeros(d, d, dtype=torch.float64)
    for block in iterate_blocks(n, BLOCK):
        rows = table[block].to(torch.float64)
        gram += rows.T @ rows
    eigenvalues, directions = torch.linalg.eigh(gram)
    values, directions = eigenvalues.flip(0).clamp(min=0).sqrt(), directions.flip(1)[:, :rank]
    kept = values[:rank]
    inverse = torch.where(kept > SMALLEST * values[0], 1 / kept, torch.zeros_like(kept))
    left, right = (torch.ones_like(kept), kept) if split == "paper" else (kept.sqrt(), kept.sqrt())
    coordinates = torch.empty(n, rank, dtype=table.dtype)
    for block in iterate_blocks(n, BLOCK):
        coordinates[block] = (table[block].to(torch.float64) @ (directions * (inverse * left))).to(table.dtype)
    return Factors(coordinates, (right[:, None] * directions.T).to(table.dtype), values)


def dense_blocks(coordinates: torch.Tensor, primitives: torch.Tensor, block: int = BLOCK) -> Iterator[torch.Tensor]:
    """``F P`` in blocks of rows, multiplied in float32 (float64 for float64 tables), in the table's dtype."""
    wide = torch.promote_types(coordinates.dtype, torch.float32)
    right = primitives.to(wide)
    for rows in iterate_blocks(coordinates.shape[0], block):
        yield (coordinates[rows].to(wide) @ right).to(coordinates.dtype)


def dense(coordinates: torch.Tensor, primitives: torch.Tensor) -> torch.Tensor:
    """``F P``, shape (n, d)."""
    return torch.cat(list(dense_blocks(coordinates, primitives)))


class FactorisedEmbedding(nn.Module):
    """Rows ``F[ids] P``. `weight` is F (n, r), `primitives` P (r, d).

    Whatever `inner`, the module it stands for, does besides looking up (a scale) is done to these rows too.
    """

    def __init__(self, weight: nn.Parameter, primitives: nn.Parameter, inner: nn.Module) -> None:
        super().__init__()
        self.weight, self.primitives = weight, primitives
        self.padding_idx = getattr(inner, "padding_idx", None)
        self.num_embeddings, self.embedding_dim = int(weight.shape[0]), int(primitives.shape[1])
        free = copy.copy(inner)
        free.padding_idx = None  # type: ignore[assignment]  # it numbers a row of the whole table
        self._stood_for = (inner, free)  # in a tuple: not submodules

    @property
    def inner(self) -> nn.Module:
        """The module that this one stands for, with a table of no rows."""
        return self._stood_for[0]

    def _apply(self, fn: Any, recurse: bool = True) -> "FactorisedEmbedding":
        self.inner._apply(fn, recurse)  # type: ignore[no-untyped-call]  # its buffers follow this module to other devices
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (..., d) of `ids` (...)."""
        coordinates = nn.functional.embedding(ids, self.weight, self.padding_idx)
        with torch.autocast(ids.device.type, enabled=False):  # a look-up keeps the table's precision
            rows = (coordinates @ self.primitives).reshape(-1, self.primitives.shape[1])
        places = torch.arange(rows.shape[0], device=ids.device).reshape(ids.shape)
        found: torch.Tensor = functional_call(self._stood_for[1], {"weight": rows}, (places,))
        return found


class FactorisedHead(nn.Module):
    """Logits ``F (P h) + b``. `weight` is F (n, r); P is that of `shared` if the tables are tied, else a parameter of its own."""

    def __init__(
        self,
        weight: nn.Parameter,
        primitives: nn.Parameter | None,
        bias: nn.Parameter | None,
        inner: nn.Module,
        shared: FactorisedEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        if primitives is not None:
            self.primitives = primitives
        self.out_features = int(weight.shape[0])
        self._stood_for = (inner,)
        self._shared: tuple[FactorisedEmbedding | None] = (shared,)  # not a submodule: saved once, with the embedding

    @property
    def inner(self) -> nn.Module:
        """The module that this one stands for, with a table of no rows."""
        return self._stood_for[0]

    @property
    def right(self) -> nn.Parameter:
        """P, wherever it is kept."""
        owner = self._shared[0]
        return self.primitives if owner is None else owner.primitives

    def part(self) -> None:
        """Stop sharing P: take a copy of it as a parameter of its own."""
        self.primitives = nn.Parameter(self.right.detach().clone())
        self._shared = (None,)

    def narrow(self, states: torch.Tensor) -> torch.Tensor:
        """``P h``, shape (..., r), of hidden states (..., d)."""
        return nn.functional.linear(states, self.right)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., n) of hidden states (..., d)."""
        return nn.functional.linear(self.narrow(states), self.weight, self.bias)


def is_factorised(model: Any) -> bool:
    """Whether the model's input table is held as two factors."""
    return isinstance(model.get_input_embeddings(), FactorisedEmbedding)


def install_factors(
    model: Any,
    coordinates: torch.Tensor,
    primitives: torch.Tensor,
    head: tuple[torch.Tensor, torch.Tensor] | None = None,
    bias: torch.Tensor | None = None,
) -> None:
    """Exchange `model`'s tables for factors: `coordinates` (n, r) and `primitives` (r, d).

    Parameters
    ----------
    head : coordinates and primitives of an untied head; None shares those of the embedding.
    bias : (n,) output bias, for a model that has one.

    The model may have any number of rows before. `config.vocab_size` becomes n, and the config says that the tables are factorised, so that
    `save_pretrained` writes a checkpoint that `load_factorised` opens.
    """
    if is_factorised(model):
        densify(model)
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    like = embedding.weight
    new = FactorisedEmbedding(_parameter(coordinates, like), _parameter(primitives, like), embedding)
    if output is not None:
        old_bias = getattr(output, "bias", None)
        new_bias = _parameter(torch.zeros(len(coordinates)) if bias is None else bias, old_bias) if old_bias is not None else None
        if head is None:
            new_output = FactorisedHead(new.weight, None, new_bias, output, shared=new)
        else:
            new_output = FactorisedHead(_parameter(head[0], like), _parameter(head[1], like), new_bias, output)
        _exchange(model, old_bias, new_bias)
        _empty(output)
        model.set_output_embeddings(new_output)
    _empty(embedding)
    model.set_input_embeddings(new)
    set_rows(model, len(coordinates), bias)
    _name_aliases(model, new)
    setattr(model.config, KEY, {"rank": int(primitives.shape[0])})


def factorise_model(model: Any, rank: int, split: Split = "paper") -> None:
    """Cut the tables of an ordinary `transformers` model in memory to `rank`; an untied head gets factors of its own."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    found = factorise(embedding.weight.detach(), rank, split)
    head = None
    if output is not None and output.weight is not embedding.weight:
        own = factorise(output.weight.detach(), rank, split)
        head = (own.coordinates, own.primitives)
    bias = getattr(output, "bias", None)
    install_factors(model, found.coordinates, found.primitives, head, None if bias is None else bias.detach())


def densify(model: Any) -> None:
    """Turn a factorised model into an ordinary one with the tables ``F P``, in place."""
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, FactorisedEmbedding):
        return
    plain, rows = embedding.inner, embedding.num_embeddings
    plain.weight = nn.Parameter(dense(embedding.weight.detach(), embedding.primitives.detach()))
    plain.num_embeddings = rows  # type: ignore[assignment]
    if isinstance(output, FactorisedHead):
        head = output.inner
        tied = output.weight is embedding.weight
        head.weight = plain.weight if tied else nn.Parameter(dense(output.weight.detach(), output.right.detach()))
        head.bias, head.out_features = output.bias, rows  # type: ignore[assignment]
        model.set_output_embeddings(head)
    model.set_input_embeddings(plain)
    model.__dict__.pop("_tied_weights_keys", None)
    delattr(model.config, KEY)


def set_rows(model: Any, rows: int, bias: torch.Tensor | None = None) -> None:
    """Say how many rows the tables have wherever a model keeps that number; a buffer of output biases gets `bias`."""
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.vocab_size = rows
    if hasattr(model, "vocab_size"):
        model.vocab_size = rows
    for name, buffer in list(model.named_buffers()):
        if name.endswith("final_logits_bias") and not (bias is None and buffer.shape[-1] == rows):
            value = torch.zeros(rows) if bias is None else bias
            model.get_submodule(name.rpartition(".")[0]).final_logits_bias = value.reshape(1, -1).to(buffer)


def _name_aliases(model: Any, embedding: FactorisedEmbedding) -> None:
    """Tell `save_pretrained` that the primitives of an embedding in several places (encoder, decoder) are one tensor."""
    names = [name for name, module in model.named_modules(remove_duplicate=False) if module is embedding]
    if len(names) > 1:
        aliases = {f"{name}.primitives": f"{names[0]}.primitives" for name in names[1:]}
        model._tied_weights_keys = {**(type(model)._tied_weights_keys or {}), **aliases}


def _parameter(value: torch.Tensor, like: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().to(device=like.device, dtype=like.dtype).clone())


def _exchange(model: Any, old: nn.Parameter | None, new: nn.Parameter | None) -> None:
    """Put `new` wherever `model` keeps the parameter `old`: some heads hold their bias under two names."""
    for module in model.modules() if old is not None else ():
        for name, parameter in module._parameters.items():
            if parameter is old:
                module._parameters[name] = new


def _empty(module: Any) -> None:
    """Let go of a dense table; the module stays for what else it does."""
    module.weight = nn.Parameter(module.weight.detach()[:0].clone())
