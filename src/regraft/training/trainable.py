"""What trains: only new rows, both tables, tables and four layers, LoRA, or all. What does not train stays bit for bit as it was.

Enters: a model, which parameters to train, the ids of new tokens. Leaves: the trainable parameters by name, a report of them in groups,
and `finish`, which puts the model back into its ordinary shape.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call

from regraft.errors import ParameterError
from regraft.language.model import table_rows
from regraft.language.tables import head_of
from regraft.training.adapters import Adapters, LoraOptions, check_tables, tied
from regraft.training.quantized import Quantization, is_linear

Quantize = Literal["none", "nf4"]
Parameters = Literal["rows", "embeddings", "2x2", "lora", "adapters", "all", "marked"]


class NewRowsEmbedding(nn.Module):
    """An embedding whose old rows are frozen in `inner` and whose new rows (n, d) are a parameter of their own.

    The table is never assembled while training: optimizer state, gradients and time follow n, not the vocabulary. Whatever `inner` does
    besides looking up (a scale) is done to new rows too.
    """

    def __init__(self, inner: nn.Module, rows: nn.Parameter, ids: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.rows = inner, rows
        slots = torch.full((table_rows(inner),), -1, dtype=torch.long, device=ids.device)
        slots[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("slots", slots, persistent=False)
        free = copy.copy(inner)
        free.padding_idx = None  # type: ignore[assignment]  # it numbers a row of the whole table
        self._lookup = (free,)  # in a tuple: not a submodule

    @property
    def weight(self) -> torch.Tensor:
        return self.inner.weight  # type: ignore[return-value]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (..., d) of `ids` (...)."""
        slots = self.slots[ids]  # type: ignore[index]
        fresh = functional_call(self._lookup[0], {"weight": self.rows}, (slots.clamp(min=0),))
        return torch.where((slots >= 0).unsqueeze(-1), fresh, self.inner(ids))


class NewRowsHead(nn.Module):
    """A head whose old rows are frozen in `inner`; logits of new tokens come from `rows` (n, d) and `bias_rows` (n,)."""

    def __init__(self, inner: nn.Module, rows: nn.Parameter, bias_rows: nn.Parameter | None, ids: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.rows, self.bias_rows = inner, rows, bias_rows
        self.register_buffer("ids", ids, persistent=False)

    @property
    def weight(self) -> torch.Tensor:
        return self.inner.weight  # type: ignore[return-value]

    @property
    def bias(self) -> torch.Tensor | None:
        return self.inner.bias  # type: ignore[return-value]

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., vocabulary) of hidden states (..., d)."""
        narrow = getattr(self.inner, "narrow", None)  # a factorised head first maps states to its own width
        fresh = nn.functional.linear(states if narrow is None else narrow(states), self.rows, self.bias_rows)
        logits: torch.Tensor = self.inner(states)
        return logits.index_copy_(-1, self.ids, fresh.to(logits.dtype))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Group:
    """One line of the report: how many numbers train in it, and their share of all there are, as `Footprint.total` counts them."""

    name: str
    parameters: int
    share: float


@dataclass
class Trainable:
    """The parameters that train, by a name that is stable between runs; call `finish` when training ends.

    `total` are the numbers that groups are shares of: the model's, before anything is quantized, and its adapters'.
    """

    total: int
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    adapters: Adapters | None = None
    quantization: Quantization | None = None
    _endings: list[Callable[[], object]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(p.numel() for p in self.parameters.values())

    def finish(self) -> None:
        """Write new rows back into their tables, merge adapters, and leave an ordinary model without trainable marks changed."""
        for ending in reversed(self._endings):
            ending()
        self._endings.clear()

    def add(self, group: str, parameters: dict[str, nn.Parameter]) -> None:
        known = {id(p) for p in self.parameters.values()}
        fresh = {name: p for name, p in parameters.items() if id(p) not in known}
        for parameter in fresh.values():
            parameter.requires_grad_(True)
        if fresh:
            self.parameters.update(fresh)
            count = sum(p.numel() for p in fresh.values())
            self.groups.append(Group(group, count, count / self.total))


def select(
    model: Any,
    parameters: Parameters,
    new_ids: Sequence[int] | npt.NDArray[np.int64],
    *,
    freeze_old_rows: bool = False,
    lora: LoraOptions | None = None,
    quantize: Quantize = "none",
) -> Trainable:
    """Mark what trains in `model` and freeze the rest.

    - ``rows``: the new rows of the input table, of an untied head, and of its bias.
    - ``embeddings``: both tables and the bias, all rows.
    - ``2x2``: those, the final norm, what else the head has, and the first two and last two layers.
    - ``lora``: both tables, and rank-r adapters on every linear layer; or adapters on the tables too.
    - ``adapters``: rank-r adapters on every linear layer alone, as for a model whose vocabulary stays.
    - ``all``: everything.
    - ``marked``: the parameters whose ``requires_grad`` is set as the model comes.

    `freeze_old_rows` makes ``embeddings``, ``2x2`` and ``lora`` train only the new rows of the tables; not for adapters on the tables,
    whose update reaches every row.

    `quantize` "nf4" holds the linear layers, frozen, in NF4 until `Trainable.finish`; not for "2x2" and "all", which train some of them.

    Raises `ParameterError`: no new ids where only new rows train, ids outside the table, or an unknown choice.
    """
    lora = lora or LoraOptions()
    check_quantize(parameters, quantize)
    check_frozen_rows(parameters, freeze_old_rows, lora.tables)
    check_lora_tables(parameters, lora.tables)
    if parameters == "lora":
        check_tables(model, lora)
    trainable = Trainable(sum(p.numel() for p in model.parameters()))
    _remember_marks(model, trainable)
    try:
        if quantize == "nf4":
            _quantize(model, trainable)
        _select(model, parameters, new_ids, freeze_old_rows, lora, trainable)
    except BaseException:
        trainable.finish()
        raise
    return trainable


def check_quantize(parameters: str, quantize: Quantize) -> None:
    """Raise `ParameterError` if layers that are to be held in NF4 are to train."""
    if quantize != "none" and parameters in ("2x2", "all", "marked"):
        raise ParameterError(
            f"quantize='{quantize}' freezes the linear layers, some of which parameters='{parameters}' trains: choose parameters='lora'"
        )


def check_frozen_rows(parameters: str, freeze_old_rows: bool, lora_tables: bool) -> None:
    """Raise `ParameterError` if old rows are to stay as they are under adapters that reach every row."""
    if parameters == "lora" and freeze_old_rows and lora_tables:
        raise ParameterError(
            "freeze_old_rows=True with lora_tables=True: adapters on the tables change old rows too: choose freeze_old_rows=False, "
            "or train the new rows beside adapters on the linear layers alone (lora_tables=False)"
        )


def check_lora_tables(parameters: str, lora_tables: bool) -> None:
    """Raise `ParameterError` if the tables are to get adapters where they train themselves or stay as they are."""
    if lora_tables and parameters in ("adapters", "2-stage"):
        kept = "leaves the tables as they are" if parameters == "adapters" else "trains the tables themselves"
        raise ParameterError(f"lora_tables=True: parameters='{parameters}' {kept}: choose parameters='lora', or lora_tables=False")


def will_train(
    model: Any, parameters: Parameters | Literal["2-stage"], new_ids: Sequence[int] | npt.NDArray[np.int64], freeze_old_rows: bool
) -> list[nn.Parameter]:
    """The parameters of `model` that training `parameters` changes; adapters change those that they are merged into."""
    if parameters == "2-stage" or parameters in ("lora", "adapters"):
        return [module.weight for module in model.modules() if is_linear(module)]
    if parameters == "all":
        return list(model.parameters())
    if parameters == "marked":
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainable = select(model, parameters, new_ids, freeze_old_rows=freeze_old_rows)
    chosen = list(trainable.parameters.values())
    trainable.finish()
    return chosen


def _select(
    model: Any,
    parameters: Parameters,
    new_ids: Sequence[int] | npt.NDArray[np.int64],
    freeze_old_rows: bool,
    lora: LoraOptions,
    trainable: Trainable,
) -> None:
    marked = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.requires_grad_(False)
    if parameters == "marked":
        if not marked:
            raise ParameterError("parameters='marked': no parameter of the model is marked to train (requires_grad)")
        trainable.add("marked", marked)
        return
    if parameters == "all":
        trainable.add("all", dict(model.named_parameters()))
        return
    if parameters in ("lora", "adapters"):
        _add_adapters(model, trainable, lora)
    if parameters == "adapters":
        return
    if parameters == "rows" or freeze_old_rows:
        _add_new_rows(model, trainable, _checked(model, new_ids))
    elif not (parameters == "lora" and lora.tables):
        _add_tables(model, trainable)
    if parameters == "2x2":
        _add_outer_layers(model, trainable)


def _remember_marks(model: Any, trainable: Trainable) -> None:
    marks = [(p, p.requires_grad) for p in model.parameters()]

    def restore() -> None:
        for parameter, mark in marks:
            parameter.requires_grad_(mark)
            parameter.grad = None

    trainable._endings.append(restore)


def _checked(model: Any, new_ids: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
    ids, rows = np.unique(np.asarray(new_ids, dtype=np.int64)), int(model.get_input_embeddings().weight.shape[0])
    if len(ids) == 0:
        raise ParameterError("no new ids: there are no new rows to train; choose parameters='embeddings', '2x2', 'lora' or 'all'")
    if ids[0] < 0 or ids[-1] >= rows:
        raise ParameterError(f"new_ids run from {ids[0]} to {ids[-1]}: the model has rows 0 to {rows - 1}")
    return torch.from_numpy(ids).to(model.get_input_embeddings().weight.device)


def _add_new_rows(model: Any, trainable: Trainable, ids: torch.Tensor) -> None:
    embedding, head, one_table = model.get_input_embeddings(), head_of(model), tied(model)
    if head is None:
        raise ParameterError(
            f"{type(model).__name__} computes its logits from the input table itself, so new rows cannot train apart from old ones: choose "
            "parameters='embeddings', '2x2', 'lora' or 'all', with freeze_old_rows=false"
        )
    rows = nn.Parameter(embedding.weight.detach()[ids].clone())
    head_rows = rows if one_table else nn.Parameter(head.weight.detach()[ids].clone())
    bias = getattr(head, "bias", None)
    bias_rows = None if bias is None else nn.Parameter(bias.detach()[ids].clone())
    model.set_input_embeddings(NewRowsEmbedding(embedding, rows, ids))
    model.set_output_embeddings(NewRowsHead(head, head_rows, bias_rows, ids))

    def put_back() -> None:
        with torch.no_grad():
            embedding.weight[ids] = rows
            if not one_table:
                head.weight[ids] = head_rows
            if bias is not None and bias_rows is not None:
                bias[ids] = bias_rows
        model.set_input_embeddings(embedding)
        model.set_output_embeddings(head)

    trainable._endings.append(put_back)
    trainable.add("new rows, input and head (tied)" if one_table else "new rows, input", {"rows": rows})
    trainable.add("new rows, head", {"head_rows": head_rows})
    if bias_rows is not None:
        trainable.add("new rows, bias", {"bias_rows": bias_rows})


def _add_tables(model: Any, trainable: Trainable) -> None:
    head = head_of(model)
    name = "embedding and head (tied)" if tied(model) else "embedding"
    trainable.add(name, {f"embedding.{n}": p for n, p in model.get_input_embeddings().named_parameters()})
    own = {} if head is None else {f"head.{n}": p for n, p in head.named_parameters()}  # of factorised tables both factors
    trainable.add("head", {n: p for n, p in own.items() if n != "head.bias"})
    trainable.add("head bias", {n: p for n, p in own.items() if n == "head.bias"})


def _add_outer_layers(model: Any, trainable: Trainable) -> None:
    """Final norm, what the head has besides its table, and the first two and last two layers."""
    backbone, count = model.base_model, model.config.get_text_config().num_hidden_layers
    lists = [(n, m) for n, m in backbone.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        raise ParameterError(f"{type(model).__name__} has no list of {count} layers: choose parameters='embeddings', 'lora' or 'all'")
    path, layers = lists[0]
    chosen = sorted({0, 1, count - 2, count - 1} & set(range(count)))
    for number in chosen:
        own = {f"{path}.{number}.{n}": p for n, p in layers[number].named_parameters()}
        trainable.add(f"layer {number}", own)
    owner = backbone.get_submodule(path.rpartition(".")[0])
    norms = {n: m for n, m in owner.named_children() if ("norm" in n.lower() or n.startswith("ln")) and "emb" not in n.lower()}
    trainable.add("final norm", {f"{n}.{k}": p for n, m in norms.items() for k, p in m.named_parameters()})
    inside = {id(p) for p in backbone.parameters()} | {id(p) for p in _table_parameters(model)}
    trainable.add("rest of the head", {n: p for n, p in model.named_parameters() if id(p) not in inside})


def _table_parameters(model: Any) -> list[nn.Parameter]:
    return [p for module in (model.get_input_embeddings(), head_of(model)) if module is not None for p in module.parameters()]


def _quantize(model: Any, trainable: Trainable) -> Quantization:
    """Hold the linear layers in NF4 until `finish`; the head stays as it is."""
    quantization = Quantization.of(model, spare=[head_of(model)])
    trainable.quantization = quantization
    trainable._endings.append(quantization.close)
    return quantization


def _add_adapters(model: Any, trainable: Trainable, lora: LoraOptions) -> None:
    adapters = Adapters(model, lora, trainable.quantization)
    trainable.adapters = adapters
    trainable._endings.append(adapters.remove)
    trainable.total += sum(p.numel() for p in adapters.parameters.values())
    trainable.add("LoRA adapters", adapters.parameters)
