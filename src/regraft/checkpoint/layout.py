"""Where a checkpoint keeps its vocabulary: input table, head, output biases, and every stored copy of them.

Enters: the config, the tensors that the files hold. Leaves: a `Layout`. The architecture is built on PyTorch's `meta` device (no weights,
no memory), its tables are found by identity and not by name, and their names are then looked up in the files, where a base-model prefix
may be missing or added and where tied tables may be stored once or several times.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from regraft.checkpoint.architecture import Architecture, Stored, text_config, with_size
from regraft.checkpoint.shards import TensorInfo, Value
from regraft.errors import CheckpointError
from regraft.graft.factors import KEY

Kind = Literal["decoder", "encoder", "encoder-decoder"]
Same = Callable[[str, str], bool]

# Names under which input tables are stored, for architectures that cannot be built here. Positions and token types are never among them.
INPUT_NAMES = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|word_embedding|embed_in|token_embedding|tokens_embed|shared)\.weight$"
)
NOT_VOCABULARY = re.compile(r"position|token_type|type_embed|segment|wpe|per_layer|relative|vision|visual|audio|image")
# Heads that a file may hold although its architecture has none (a language model saved under its base class).
HEAD_NAMES = re.compile(r"(^|\.)(lm_head|lm_head\.decoder|cls\.predictions\.decoder|embed_out)\.weight$")
BIAS_NAMES = re.compile(r"(^|\.)((lm_head|lm_head\.decoder|cls\.predictions|cls\.predictions\.decoder)\.bias|final_logits_bias)$")
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Layout:
    """Names of the tensors over the vocabulary, as the files spell them.

    Attributes
    ----------
    input : the input table; the first name is the one to read, the rest are stored copies of it (also a tied head's).
    head : an untied head and its copies; empty if the head is tied or there is none.
    bias : output biases over the vocabulary and their copies; shape (V,), or (1, V) for `final_logits_bias`.
    tied : whether the input table is also the head.
    rows, dim : rows of the vocabulary, padding included, and width of the input table.
    kind : which way the model reads.
    initializer_range : standard deviation of the model's own fresh rows.
    others : further tensors over the vocabulary, such as input tables of each layer, and the dimension in which they run over it.
    called : what `transformers` makes of each stored tensor: the parameter in memory.
    behind : how many rows a tensor has behind those of the vocabulary, where it has some: they belong to no token and stay last.
    """

    input: tuple[str, ...]
    head: tuple[str, ...]
    bias: tuple[str, ...]
    tied: bool
    rows: int
    dim: int
    kind: Kind
    initializer_range: float
    others: Mapping[str, int] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)
    called: Mapping[str, Stored] = field(default_factory=dict, repr=False, compare=False)
    architecture: Architecture | None = field(default=None, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.input, *self.head, *self.bias, *self.others)

    def copies(self, name: str) -> tuple[str, ...]:
        """All names that store the same tensor as `name`."""
        return next((group for group in (self.input, self.head, self.bias) if name in group), (name,))

    def resized(self, config: Mapping[str, Any], rows: int) -> dict[str, Any]:
        """The JSON `config` with every size of this vocabulary, which is there or was left to its default, set to `rows`."""
        if self.architecture is None:
            return {**config, "vocab_size": rows}
        return with_size(config, self.architecture.config, self.rows, rows)

    def assign(self, table: Value, head: Value | None = None, bias: Value | None = None) -> dict[str, Value]:
        """`tensors` for `regraft.checkpoint.write`: the new value of each tensor over the vocabulary, under all its names."""
        values: dict[str, Value] = dict.fromkeys(self.input, table)
        for names, value, what in ((self.head, head, "head"), (self.bias, bias, "output bias")):
            if names and value is None:
                raise ValueError(f"this checkpoint has an {what} of its own ({names[0]}): give new rows for it as well")
            if value is not None:
                values |= dict.fromkeys(names, value)
        return values


def find_layout(directory: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo], same: Same) -> Layout:
    """Find the vocabulary's tensors among `tensors`.

    `same(a, b)` says whether two stored tensors are equal byte for byte. Raises `CheckpointError`: the architecture is unknown, no table
    or more than one candidate is found, or shapes contradict the config.
    """
    architecture = Architecture(directory, config)
    finder = _Finder(directory, tensors, same, architecture)
    stored = finder.find_input()
    table = tensors[stored[0]]
    factorised = isinstance(config.get(KEY), dict)
    width = config[KEY].get("rank") if factorised else finder.expected_dim
    finder.check_table(stored[0], width)
    rows = architecture.vocab_size if finder.over and architecture.vocab_size else table.shape[0]
    names, heads = finder.separate_head(stored)
    for name in heads:
        finder.check_table(name, None)
    biases = finder.find_biases(rows)
    others = finder.find_others({*names, *heads, *biases}, rows)
    over = dict.fromkeys((*names, *heads), 0) | others
    behind = {name: tensors[name].shape[dim] - rows for name, dim in over.items() if tensors[name].shape[dim] != rows}
    kind = _kind(architecture.config, config, type(architecture.model).__name__ if architecture.model is not None else "")
    return Layout(
        input=names,
        head=heads,
        bias=biases,
        tied=not heads and finder.has_head,
        rows=rows,
        dim=table.shape[1],
        kind=kind,
        initializer_range=_initializer_range(text_config(architecture.config)),
        others=others,
        behind=behind,
        called=finder.names,
        architecture=architecture,
    )


class _Finder:
    """Matches the architecture's tables with the files' tensors."""

    def __init__(self, directory: Path, tensors: Mapping[str, TensorInfo], same: Same, architecture: Architecture) -> None:
        self.directory, self.tensors, self.same, self.architecture = directory, tensors, same, architecture
        self.model, self.parameters = architecture.model, architecture.parameters
        self.over = architecture.over_vocabulary
        self.names = architecture.names_of(tensors)
        self.called = {name: stored.name for name, stored in self.names.items()}
        self.input_group: list[str] = []
        self.head_group: list[str] = []
        self.head_names: set[str] = set()
        self.bias_group: list[str] = []
        self.expected_dim: int | None = None
        if self.model is not None:
            self._read_architecture(self.model)

    def _read_architecture(self, model: Any) -> None:
        with contextlib.suppress(NotImplementedError, AttributeError):
            weight = model.get_input_embeddings().weight
            self.input_group = self._aliases(weight)
            self.expected_dim = int(weight.shape[1])
        head: Any = None
        with contextlib.suppress(NotImplementedError, AttributeError):
            head = model.get_output_embeddings()
        group = [] if getattr(head, "weight", None) is None else self._aliases(head.weight)
        if group and (not self.over or any(name in self.over for name in group)):  # some classes answer with a layer before the head
            self.head_group = group
            modules = [name for name, module in model.named_modules(remove_duplicate=False) if module is head]
            self.head_names = {f"{name}.weight" for name in modules}
            if getattr(head, "bias", None) is not None:
                self.bias_group = self._aliases(head.bias)
        self.bias_group += [name for name in self.parameters if name.endswith("final_logits_bias")]
        if not self.bias_group:  # a head that is a function of the table and of this
            self.bias_group = [name for name in self.over if name.endswith("bias") and BIAS_NAMES.search(name)]

    def _aliases(self, tensor: torch.Tensor) -> list[str]:
        return [name for name, other in self.parameters.items() if other is tensor]

    @property
    def has_head(self) -> bool:
        return bool(self.head_group or self.bias_group) or any(HEAD_NAMES.search(name) for name in self.tensors)

    def stored(self, names: Iterable[str]) -> list[str]:
        """Names in the files for `names` of the model, as the library's own renaming has them."""
        wanted = list(names)
        return [stored for name in wanted for stored, called in self.called.items() if called == name]

    def check_table(self, name: str, dim: int | None) -> None:
        """Raise `CheckpointError` unless the table stored as `name` can be changed and is what config.json says."""
        info, where = self.tensors[name], self.directory
        if len(info.shape) != 2:
            raise CheckpointError(f"{where}: {name} has shape {info.shape}, not (vocabulary, dimension)")
        if info.dtype not in FLOATS:
            raise CheckpointError(f"{where}: {name} is quantized ({info.dtype}): start from the unquantized checkpoint")
        vocab_size, expected = self.architecture.vocab_size, self.architecture.shapes.get(self.called.get(name, ""))
        rows = expected[0] if expected is not None and self.over else vocab_size
        if rows and rows != info.shape[0]:
            raise CheckpointError(
                f"{where}: config.json says vocab_size {vocab_size}, but {name} has {info.shape[0]} rows: the files do not match"
            )
        if dim is not None and dim != info.shape[1]:
            raise CheckpointError(
                f"{where}: config.json says {dim} hidden dimensions, but {name} has {info.shape[1]}: the files do not match"
            )

    def find_others(self, known: set[str], rows: int) -> dict[str, int]:
        """Every other stored tensor over the vocabulary, with its dimension there.

        Raises `CheckpointError` where the architecture cannot say which those are, and one has a dimension of `rows`.
        """
        if self.over:
            return {name: self.over[called] for name, called in self.called.items() if called in self.over and name not in known}
        if self.model is None:
            unclear = [n for n, info in self.tensors.items() if n not in known and rows in info.shape and not NOT_VOCABULARY.search(n)]
            if unclear:
                raise CheckpointError(
                    f"{self.directory}: {unclear[0]} has a dimension of {rows}, as many as the input table has rows, and this architecture "
                    "cannot be built to see whether it runs over the vocabulary"
                )
        return {}

    def find_input(self) -> tuple[str, ...]:
        """Every stored name of the input table; names of the head come last."""
        found = self.stored(self.input_group)
        if not found:  # renamed between library versions: well-known names, never one that the architecture uses for something else
            found = [n for n in self.tensors if INPUT_NAMES.search(n) and not NOT_VOCABULARY.search(n) and n not in self.called]
            if self.expected_dim is not None:
                found = [n for n in found if self.tensors[n].shape[1:] == (self.expected_dim,)]
            if len({self.tensors[n].shape for n in found}) > 1 or any(not self.same(found[0], n) for n in found[1:]):
                raise CheckpointError(
                    f"{self.directory}: cannot tell which is the input table: {', '.join(found[:4])}; please report this model type"
                )
        if not found:
            if not self.input_group and self.model is not None:  # several tables, as of codebooks, or a bare parameter
                raise CheckpointError(
                    f"{self.directory}: {type(self.model).__name__} names no one input table over its vocabulary: what such a model reads "
                    "cannot be changed or scored yet"
                )
            wanted = self.input_group[0] if self.input_group else "an input table over the vocabulary"
            raise CheckpointError(f"{self.directory}: no tensor for {wanted} in the files: they do not belong to this config.json")
        leftovers = [n for n in self.tensors if HEAD_NAMES.search(n) and n not in self.called and n not in found]
        self.head_names |= set(leftovers)
        found += [n for n in leftovers if self.tensors[n].shape == self.tensors[found[0]].shape]
        return tuple(sorted(found, key=lambda n: n in self.head_names))

    def separate_head(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(stored copies of the input table, stored copies of an untied head).

        Values decide, as in transformers: a head declared tied but stored with other values is not tied.
        """
        untied = self.stored(n for n in self.head_group if n not in self.input_group)
        if self.head_group and not set(self.head_group) & set(self.input_group) and not untied:
            raise CheckpointError(f"{self.directory}: config.json says the head is not tied, but {self.head_group[0]} is not in the files")
        copies = [n for n in names if n not in untied]
        different = [n for n in copies[1:] if not self.same(copies[0], n)]
        for name in different:
            if name not in self.head_names:
                raise CheckpointError(
                    f"{self.directory}: {copies[0]} and {name} differ: separate vocabularies for encoder and decoder are not supported yet"
                )
        heads = untied + [n for n in different if n not in untied]
        for name in heads[1:]:
            if not self.same(heads[0], name):
                raise CheckpointError(f"{self.directory}: {heads[0]} and {name} both look like the head and differ")
        return tuple(n for n in copies if n not in different), tuple(heads)

    def find_biases(self, rows: int) -> tuple[str, ...]:
        """Stored output biases with `rows` entries."""
        found = self.stored(self.bias_group)
        found += [n for n in self.tensors if BIAS_NAMES.search(n) and n not in self.called and n not in found]
        for name in found:
            shape = self.tensors[name].shape
            if shape not in ((rows,), (1, rows)):
                raise CheckpointError(
                    f"{self.directory}: output bias {name} has shape {shape}, the input table {rows} rows: the files contradict each other"
                )
            if self.tensors[name].dtype != self.tensors[found[0]].dtype or not self.same(found[0], name):
                raise CheckpointError(f"{self.directory}: output biases {found[0]} and {name} differ, so it is unclear which one counts")
        return tuple(found + self._idle_biases(rows, found))

    def _idle_biases(self, rows: int, found: list[str]) -> list[str]:
        """Output biases that the architecture holds beside the head's own, as BERT does once its tables are parted.

        No forward pass reads them, but the model has them, so they must grow with the vocabulary: they become copies of the head's.
        """
        if not found:
            return []
        named = self.stored(n for n in self.parameters if BIAS_NAMES.search(n))
        kind = ((rows,), self.tensors[found[0]].dtype)
        return [n for n in named if n not in found and (self.tensors[n].shape, self.tensors[n].dtype) == kind]


def _kind(model_config: Any, config: Mapping[str, Any], class_name: str) -> Kind:
    from transformers.models.auto import modeling_auto

    if getattr(model_config, "is_encoder_decoder", False) and "Encoder" not in class_name:
        return "encoder-decoder"
    if "CausalLM" in class_name or "LMHeadModel" in class_name or getattr(model_config, "is_decoder", False):
        return "decoder"
    masked = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    text_type = text_config(model_config).model_type
    types = {str(config.get("model_type")), text_type}
    return "decoder" if types & set(causal) and not types & set(masked) else "encoder"


def _initializer_range(text_config: Any) -> float:
    """The standard deviation with which the architecture itself starts embedding rows."""
    if getattr(text_config, "model_type", "") in ("t5", "mt5", "umt5"):
        return float(text_config.initializer_factor)  # T5 draws its table from N(0, factor)
    for name in ("initializer_range", "init_std"):
        if isinstance(value := getattr(text_config, name, None), int | float):
            return float(value)
    return 0.02
