"""Build the tables of a model with a new vocabulary: old rows copied, new rows started, biases and heads with them.

Enters: a checkpoint, a tokenizer change, a start. Leaves: a `Transplant`, the changed tensors under their names in the checkpoint, with
the map that made them. No model is loaded; memory is that of the tables.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, ParameterError, TokenizerError
from regraft.graft import ORIGINS, Graft, HullCertificate, Rows, iterate_blocks
from regraft.graft.moments import mean_and_std
from regraft.meter import Cost, metered
from regraft.tokenizer import Tokenizer
from regraft.vocab.change import Change
from regraft.vocab.initializer import Context, Initializer, Source, Target


@dataclass(frozen=True)
class Transplant:
    """New tables and where each row came from.

    Attributes
    ----------
    input, head : (rows, d) new tables; `head` is None where it is tied to the input table or absent. Coordinates (rows, r) where the
        start factorised the tables.
    bias : (rows,) output bias, or None.
    tensors : every changed tensor by its name in the checkpoint's files (stored copies included).
    graft : the map of the new rows for the input table, shape (new tokens, old tokens); None for sampled rows.
    origins : (vocab_size,) index into `graft.ORIGINS`.
    new_ids : (m,) ids of the started rows.
    layers : other parameters that a start has trained with its rows, by their names in the loaded model.
    others : further tensors over the vocabulary by the names of their parameters in memory.
    behind : rows of `input` behind those of the vocabulary.
    shared : whether the start has made one table of an untied model's two; `graft` then maps from that one.
    """

    input: torch.Tensor
    head: torch.Tensor | None
    bias: torch.Tensor | None
    tensors: dict[str, torch.Tensor]
    graft: Graft | None
    origins: npt.NDArray[np.uint8]
    new_ids: npt.NDArray[np.int64]
    certificate: HullCertificate | None
    layers: Mapping[str, torch.Tensor] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    primitives: torch.Tensor | None = None  # (r, d), with coordinates in `input`
    head_primitives: torch.Tensor | None = None  # (r, d), with coordinates in `head`
    added: dict[str, torch.Tensor] = field(default_factory=dict)  # the primitives by the names they are stored under
    shared: bool = False
    others: dict[str, torch.Tensor] = field(default_factory=dict)
    behind: int = 0

    def input_rows(self, ids: npt.NDArray[np.int64]) -> torch.Tensor:
        """Rows (n, d) of the input table, float32, also where it is factorised."""
        rows = self.input[torch.from_numpy(ids)].to(torch.float32)
        return rows if self.primitives is None else rows @ self.primitives.to(torch.float32)

    @property
    def rows(self) -> int:
        return int(self.input.shape[0]) - self.behind

    def digest(self) -> str:
        """Identifies what a model with these tables computes: equal for starts that came to the same rows."""
        parts = {"input": self.input, "head": self.head, "bias": self.bias, "primitives": self.primitives}
        parts |= {"head primitives": self.head_primitives, **self.layers, **self.others}
        found = hashlib.sha256()
        for name, tensor in parts.items():
            if tensor is not None:
                found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()

    def origin_counts(self) -> dict[str, int]:
        return {name: int((self.origins == code).sum()) for code, name in enumerate(ORIGINS)}


def transplant(
    checkpoint: Checkpoint,
    old_tokenizer: Tokenizer,
    change: Change,
    initializer: Initializer,
    context: Context,
    pad_to_multiple_of: int = 1,
) -> Transplant:
    """Start the rows of `change`'s new tokens and lay out the whole new tables.

    The tables have one row per id of the new tokenizer, or as many as the source had if that is more (its padding), rounded up to
    `pad_to_multiple_of`; rows that no token owns take the mean of all old rows, which can never be the greedy choice.

    Raises `CheckpointError` if the source's tokenizer has ids that its table lacks or a row that is started from holds NaN or infinity.
    """
    layout = checkpoint.layout
    vocab_size = old_tokenizer.vocab_size
    if vocab_size > layout.rows:
        raise CheckpointError(
            f"{checkpoint.path}: the tokenizer has {vocab_size} ids but the table only {layout.rows} rows: wrong tokenizer?"
        )
    if change.tokenizer.vocab_size < 1:
        raise TokenizerError("the new tokenizer has no tokens")
    keeps_ids = len(change.source_ids) >= vocab_size and bool((change.source_ids[:vocab_size] == np.arange(vocab_size)).all())
    rows = max(len(change.source_ids), layout.rows if keeps_ids else 0)
    rows = -(-rows // pad_to_multiple_of) * pad_to_multiple_of
    target = Target(ids=change.new_ids, tokenizer=change.tokenizer, source_ids=change.source_ids, old_tokenizer=old_tokenizer)
    with metered() as cost:
        return _build(checkpoint, old_tokenizer, target, initializer, context, rows, cost)


def _build(
    checkpoint: Checkpoint, old: Tokenizer, target: Target, initializer: Initializer, context: Context, rows: int, cost: Cost
) -> Transplant:
    layout = checkpoint.layout
    full_bias = checkpoint.read(layout.bias[0]).reshape(-1) if layout.bias else None
    old_bias = None if full_bias is None else full_bias[: old.vocab_size]
    if old_bias is not None:
        check_finite(old_bias.unsqueeze(1), checkpoint, layout.bias[0])

    def start(role: str, old_table: torch.Tensor) -> Graft | Rows:
        other = layout.input if role == "head" else layout.head
        source = Source(
            table=old_table[: old.vocab_size],
            tokenizer=old,
            role="head" if role == "head" else "input",
            tied=layout.tied or shared is not None,
            initializer_range=layout.initializer_range,
            bias=old_bias,
            partner=(lambda: checkpoint.read(other[0])[: old.vocab_size]) if other and shared is None else None,
        )
        return initializer(source, target, context) if len(target) else Graft.mean(0, old.vocab_size)

    added: dict[str, torch.Tensor] = {}

    def open_table(name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The stored table, or its coordinates and primitives."""
        table = checkpoint.read(name)
        check_finite(table[: old.vocab_size], checkpoint, name)
        factors = initializer.factorise(table[: old.vocab_size])
        if factors is None:
            return table, None
        added[primitives_name(name)] = factors.primitives
        return factors.coordinates, factors.primitives

    old_input, primitives = open_table(layout.input[0])
    shared = shared_table(checkpoint, initializer, old_input, old.vocab_size)
    if shared is not None:
        old_input = shared
    started = start("input", old_input)
    new_input, of_input = lay_out(old_input, target, started, rows, layout.rows), started
    layers = started.layers if isinstance(started, Rows) else {}
    graft = started if isinstance(started, Graft) else None
    del old_input  # two pairs of tables at once would be twice the memory
    new_head, head_primitives = None, None
    if layout.head and shared is None:
        old_head, head_primitives = open_table(layout.head[0])
        if graft is None or initializer.separate_head:
            started = start("head", old_head)
        new_head = lay_out(old_head, target, started, rows, layout.rows)
    new_bias, excess = None, None
    if full_bias is not None and old_bias is not None:
        own = initializer.new_bias(started, old_bias) if isinstance(started, Graft) else None
        new_bias = lay_out(full_bias, target, started if own is None else Rows(own[:, None], own), rows)
        if own is not None and isinstance(started, Graft):
            excess = (own.double() - started.averaging().apply(old_bias).double()).numpy()
    tensors = dict.fromkeys(layout.input if shared is None else layout.input + layout.head, new_input)
    if new_head is not None:
        tensors |= dict.fromkeys(layout.head, new_head)
    if new_bias is not None:
        tensors |= {name: new_bias.reshape(*checkpoint.tensors[name].shape[:-1], rows) for name in layout.bias}
    others = lay_out_others(checkpoint, target, of_input, context, rows)
    tensors |= others
    tensors |= stored_layers(checkpoint, layers)
    where, proof = origins(target, started), started.certificate(excess) if isinstance(started, Graft) else None
    if shared is not None:
        where[:] = ORIGINS.index("combined")
        context.notes.append(f"{initializer.name} has made one table of input table and head, so every old row has changed")
    return Transplant(
        new_input, new_head, new_bias, tensors, graft, where, target.ids, proof, layers, cost, primitives, head_primitives, added,
        shared is not None, {layout.called[name].name: tensor for name, tensor in others.items()}, len(new_input) - rows,
    )  # fmt: skip


def shared_table(checkpoint: Checkpoint, initializer: Initializer, table: torch.Tensor, vocab_size: int) -> torch.Tensor | None:
    """What `initializer` puts in the place of an untied model's input table, which is `table`, and head; None: they stay two.

    Raises `ParameterError` where one table cannot serve as both: other shapes or dtypes, or an encoder-decoder, of which some scale the
    hidden states of a tied head.
    """
    layout = checkpoint.layout

    def read_head() -> torch.Tensor:
        sides = [checkpoint.tensors[names[0]] for names in (layout.input, layout.head)]
        if layout.kind == "encoder-decoder" or len({(side.shape, side.dtype) for side in sides}) > 1:
            raise ParameterError(
                f"{checkpoint.path}: {layout.input[0]} and {layout.head[0]} cannot become one table: {initializer.name} can only make one "
                "of tables of equal shape and dtype, and not in an encoder-decoder: let them stay two"
            )
        head = checkpoint.read(layout.head[0])
        check_finite(head[:vocab_size], checkpoint, layout.head[0])
        return head

    return initializer.share(table, read_head) if layout.head else None


def lay_out_others(checkpoint: Checkpoint, target: Target, started: Graft | Rows, context: Context, rows: int) -> dict[str, torch.Tensor]:
    """Every further tensor over the vocabulary, by its name in the files: its new rows by the graft of the input table.

    A start that gives rows, and no map of old ones, says nothing of them: then they are what it was started beside, else the mean of the
    new token's pieces.
    """
    layout = checkpoint.layout
    if not layout.others:
        return {}
    graft = started if isinstance(started, Graft) else started.beside
    if graft is None:
        graft = Graft.uniform(target.pieces, columns=target.old_tokenizer.vocab_size)
        context.notes.append(f"rows of {', '.join(layout.others)} are means of the rows of old pieces")
    found = {}
    for name, dim in layout.others.items():
        old = checkpoint.read(name).movedim(dim, 0)
        if not old.is_floating_point():  # numbers of experts, say, which have no mean: those of the piece that weighs most
            found[name] = _picked(old, target, graft, rows).movedim(0, dim).contiguous()
            continue
        check_finite(old[: target.old_tokenizer.vocab_size].reshape(target.old_tokenizer.vocab_size, -1), checkpoint, name)
        flat = old.reshape(len(old), -1) if old.ndim > 1 else old
        new = lay_out(flat, target, graft, rows, layout.rows)
        found[name] = new.reshape(len(new), *old.shape[1:]).movedim(0, dim).contiguous()
    return found


def _picked(old: torch.Tensor, target: Target, graft: Graft, rows: int) -> torch.Tensor:
    """A table of whole numbers: copied rows, and for each new token that of the old one with the largest weight in its mix."""
    chosen = np.zeros(rows, dtype=np.int64)
    places = np.flatnonzero(target.source_ids >= 0)
    chosen[places] = target.source_ids[places]
    chosen[target.ids] = np.asarray(graft.weights.argmax(axis=1)).ravel()
    return old[torch.from_numpy(chosen)]


def stored_layers(checkpoint: Checkpoint, layers: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`layers` under the names and in the dtypes of the files. Raises `CheckpointError` for one that they do not hold as it is."""
    names = {called.name: stored for stored, called in checkpoint.layout.called.items() if not called.packed}
    found = {}
    for name, values in layers.items():
        if name not in names:
            raise CheckpointError(f"{checkpoint.path}: parameter {name} is not stored as it is in memory, so it cannot be written back")
        found[names[name]] = values.to(checkpoint.tensors[names[name]].torch_dtype)
    return found


def primitives_name(table: str) -> str:
    """Where a factorised checkpoint stores the primitives of the table stored under the name `table`."""
    return f"{table.rpartition('.')[0]}.primitives"


def lay_out(old: torch.Tensor, target: Target, started: Graft | Rows, rows: int, vocabulary: int | None = None) -> torch.Tensor:
    """The new table (or bias): copied, started and unowned rows each in their place among `rows`, in `old`'s dtype.

    What `old` has behind its first `vocabulary` rows stays behind the new ones.
    """
    vocab_size = target.old_tokenizer.vocab_size
    if isinstance(started, Graft):
        fresh = (started.averaging() if old.ndim == 1 else started).apply(old[:vocab_size])
    elif old.ndim == 1:
        fresh = started.bias if started.bias is not None else old[:vocab_size].to(torch.float64).mean().to(old.dtype).expand(len(target))
    else:
        fresh = started.values.to(old.dtype)
    behind = old[vocabulary:] if vocabulary is not None else old[:0]
    table = torch.empty((rows + len(behind), *old.shape[1:]), dtype=old.dtype)
    table[rows:] = behind
    owned = np.zeros(rows, dtype=bool)
    owned[: len(target.source_ids)] = target.source_ids >= 0
    owned[target.ids] = True
    if not owned.all():
        mean = mean_and_std(old[:vocab_size].reshape(vocab_size, -1))[0].to(old.dtype)
        table[:rows][torch.from_numpy(~owned)] = mean if old.ndim > 1 else mean[0]
    places = np.flatnonzero(target.source_ids >= 0)
    for block in iterate_blocks(len(places), 16384):
        table[torch.from_numpy(places[block])] = old[torch.from_numpy(target.source_ids[places[block]])]
    table[torch.from_numpy(target.ids)] = fresh
    if isinstance(started, Rows) and started.replacements is not None and old.ndim == 2:
        table[torch.from_numpy(started.replaced)] = started.replacements.to(old.dtype)
    return table


def origins(target: Target, started: Graft | Rows) -> npt.NDArray[np.uint8]:
    """Where the row of each id of the new tokenizer came from, as an index into `ORIGINS`."""
    codes = np.full(len(target.source_ids), ORIGINS.index("copied"), dtype=np.uint8)
    codes[target.ids] = ORIGINS.index("combined" if isinstance(started, Graft) else started.origin)
    if isinstance(started, Rows):
        codes[started.replaced] = ORIGINS.index(started.origin)
        codes[target.ids[started.combined]] = ORIGINS.index("combined")
    return codes


def full_graft(result: Transplant, source_ids: npt.NDArray[np.int64], columns: int) -> Graft | None:
    """The map of the whole new vocabulary, shape (new vocabulary, old tokens): identity rows for copied ids, the graft's for new ones."""
    if result.graft is None:
        return None
    places = np.flatnonzero((source_ids >= 0) & (source_ids < columns))  # rows that no token owned are no part of the map
    copied = sparse.coo_matrix((np.ones(len(places)), (places, source_ids[places])), shape=(len(source_ids), columns))
    lift = sparse.coo_matrix(
        (np.ones(len(result.new_ids)), (result.new_ids, np.arange(len(result.new_ids)))), shape=(len(source_ids), len(result.new_ids))
    )
    share = None
    if result.graft.share is not None:
        share = np.zeros(len(source_ids))
        share[result.new_ids] = result.graft.share
    return Graft(sparse.csr_matrix(copied + lift @ result.graft.weights), result.graft.shared, share, result.new_ids[result.graft.fallback])


def check_finite(table: torch.Tensor, checkpoint: Checkpoint, name: str) -> None:
    """Raise `CheckpointError` naming the first row of `table` that holds NaN or infinity."""
    for block in iterate_blocks(table.shape[0], 16384):
        finite = torch.isfinite(table[block]).all(dim=-1)
        if not bool(finite.all()):
            row = block.start + int((~finite).nonzero()[0])
            raise CheckpointError(f"{checkpoint.path}: row {row} of {name} holds NaN or infinity: repair the checkpoint before adapting it")
