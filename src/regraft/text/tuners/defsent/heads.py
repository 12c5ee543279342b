"""What stands between a text's vector and the scores of entries, all of it dropped after training.

Enters: an encoder. Leaves: the frozen head of the language model that it came from, or a trainable dense layer.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import nn
from torch.nn.functional import log_softmax, normalize
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as Output
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, ParameterError
from regraft.language.loading import quiet
from regraft.text.reading.layers import blocks_of

Head = Literal["auto", "pooler", "mlm", "identity", "none"]
PoolingMode = Literal["own", "cls", "mean", "max"]
MLM = ("cls.predictions.transform.dense", "lm_head.dense", "vocab_transform", "predictions.dense", "head.dense")
POOLER = ("pooler.dense",)


def transformer_of(model: SentenceTransformer) -> Transformer:
    """The transformer inside an encoder. Raises `ParameterError` for an encoder without one."""
    found: Transformer | None = next((module for module in model.modules() if isinstance(module, Transformer)), None)
    if found is None:
        raise ParameterError(f"{type(model[0]).__name__} comes first in this encoder: a dictionary is learned by a transformer")
    return found


def pooled_by(model: SentenceTransformer, mode: PoolingMode = "own") -> SentenceTransformer:
    """The encoder `model` without unit length at its end, or its tokens pooled otherwise; modules are shared, nothing is copied."""
    if mode == "own":
        kept: list[nn.Module] = [module for module in model if not isinstance(module, Normalize)]
    else:
        body: Any = model[0]
        kept = [body, Pooling(int(body.get_embedding_dimension()), mode)]
    return SentenceTransformer(modules=kept, device=str(model.device))


def source_of(model: SentenceTransformer) -> str:
    """Where the checkpoint of an encoder lies."""
    backbone: Any = transformer_of(model).model
    return str(backbone.config.name_or_path)


def dense_head(model: SentenceTransformer, kind: Head) -> Dense | None:
    """A layer (d, d) as `kind` says. "auto" is BERT's own pooler, else the dense layer of the masked-LM head, else the identity.

    Raises `ParameterError` where the checkpoint has not what is asked for.
    """
    dim = int(model.get_embedding_dimension() or 0)
    if kind == "none":
        return None
    if kind == "identity":
        return Dense(dim, dim, activation_function=nn.Identity(), init_weight=torch.eye(dim), init_bias=torch.zeros(dim))
    checkpoint = Checkpoint.open(source_of(model))
    tried: list[tuple[tuple[str, ...], nn.Module]] = [(POOLER, nn.Tanh()), (MLM, nn.GELU())]
    if kind != "auto":
        tried = tried[:1] if kind == "pooler" else tried[1:]
    elif checkpoint.config.get("model_type") != "bert":
        tried = tried[1:]
    for ends, activation in tried:
        stored = next((name for name in checkpoint.tensors if name.endswith(tuple(f"{end}.weight" for end in ends))), None)
        if stored is None or (weight := checkpoint.read(stored).float()).shape != (dim, dim):
            continue
        name = f"{stored.removesuffix('.weight')}.bias"
        bias = checkpoint.read(name).float() if name in checkpoint.tensors else torch.zeros(dim)
        return Dense(dim, dim, activation_function=activation, init_weight=weight, init_bias=bias)
    if kind != "auto":
        what = "pooler" if kind == "pooler" else "masked-LM head"
        raise ParameterError(f"head={kind}: {checkpoint.path} has no {what} of {dim} x {dim}: take head=identity")
    return dense_head(model, "identity")


class Given(nn.Module):
    """In the place of a language model's transformer: hands out the states that it was given."""

    states: torch.Tensor

    def forward(self, *args: Any, **kwargs: Any) -> Output:
        return Output(last_hidden_state=self.states)


class LanguageHead(nn.Module):
    """The head of a language model alone, frozen, with an output matrix of its own: vectors (n, d) in, logits (n, V) out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.given = Given()
        setattr(model, model.base_model_prefix, self.given)
        self.model = model.requires_grad_(False).eval()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        self.given.states = vectors[:, None]
        ids = torch.zeros(len(vectors), 1, dtype=torch.long, device=vectors.device)
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, 0]
        return logits


def language_head(model: SentenceTransformer) -> LanguageHead:
    """The head that the checkpoint of an encoder holds: a masked-LM head whole, or a decoder's output matrix (the body has the final norm).

    Raises `CheckpointError` for a checkpoint without one.
    """
    path, backbone = source_of(model), transformer_of(model).model
    config: Any = backbone.config
    decoder = type(config) not in MODEL_FOR_MASKED_LM_MAPPING or any("CausalLM" in name for name in config.architectures or ())
    kind: Any = AutoModelForCausalLM if decoder else AutoModelForMaskedLM
    try:
        with quiet():
            found, told = kind.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: no language model ({' '.join(str(error).split())[:150]})") from None
    if told["missing_keys"]:
        some = ", ".join(sorted(told["missing_keys"])[:2])
        raise CheckpointError(f"{path}: it has no language-model head ({some} missing): take method defsent-plus, which needs none")
    return LanguageHead(found).to(model.device)


class Entries(nn.Module):
    r"""Frozen vectors of entries E (N, d) as the prediction layer: :math:`v E^T`, or :math:`\cos(v, E_k) / \tau`."""

    table: torch.Tensor

    def __init__(self, table: torch.Tensor, temperature: float | None = None) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("table", table if temperature is None else normalize(table, dim=1) / temperature)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        given = vectors if self.temperature is None else normalize(vectors, dim=1)
        return given @ self.table.T


def targets(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Probability spread equally over a text's labels; -1 is no label."""
    spread = torch.zeros(len(labels), count + 1, device=labels.device)
    spread.scatter_(1, labels.where(labels >= 0, count), 1.0)
    return spread[:, :count] / spread[:, :count].sum(1, keepdim=True)


class Predict(nn.Module):
    r"""Cross-entropy of a softmax over all entries: :math:`-\sum_k t_k \log p_k`, t spread equally over the entries of a definition."""

    def __init__(self, model: SentenceTransformer, scores: nn.Module) -> None:
        super().__init__()
        self.model, self.scores = model, scores

    def forward(self, sentence_features: Iterator[dict[str, Any]], labels: torch.Tensor) -> torch.Tensor:
        vectors = self.model(next(iter(sentence_features)))["sentence_embedding"]
        logits = self.scores(vectors)
        loss: torch.Tensor = -(targets(labels, logits.shape[1]) * log_softmax(logits, dim=1)).sum(1).mean()
        return loss


def freeze(model: SentenceTransformer, last: int | None = None) -> None:
    """Freeze what is outside the stack of layers (embeddings, final norm, pooler), and all but the `last` of the layers."""
    backbone = transformer_of(model).model
    blocks = blocks_of(backbone)
    if last is not None and last > len(blocks):
        raise ParameterError(f"layers={last}: the model has {len(blocks)}")
    backbone.requires_grad_(False)
    for block in blocks if last is None else blocks[len(blocks) - last :]:
        block.requires_grad_(True)
