"""NV-Embed's encoder: a decoder without its causal mask, and a head between its states and their mean."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from regraft.errors import CheckpointError, ParameterError
from regraft.method import Paper
from regraft.text.encoder import Encoder, open_transformer
from regraft.text.modules.bidirectional import switch
from regraft.text.modules.decoder import Decoder, append_eos, instructed
from regraft.text.modules.latent_attention import LatentAttention
from regraft.text.modules.masked_pooling import MaskedPooling


class NVEmbed(Encoder):
    r"""Bidirectional states, EOS after every text, instructions read but not pooled, one of four poolings (sections 3.1 and 3.2).

    A `latent` or `self-attention` head of a model that has none starts from random numbers: only a tuner takes it
    (``regraft text train MODEL --pooling nv-embed --method nv-embed``); to encode with it before that is refused. `mean` and `eos` need no
    training.

    Parameters
    ----------
    pooling : latent attention, the self-attention of the same shape, the mean, or the state of EOS.
    bidirectional : without the causal mask, tried on the live model; a model where that does not hold is refused.
    variant : of `latent` and `self-attention`: the released code's form, or the paper's formula (see `LatentAttention`).
    latents, heads, dim_head, ff_mult : r, heads, width a head (None: that of the model, as released), width of the feed-forward layer.
    dense : a trainable d x d map after the pooling; gives `mean` and `eos` something to train over cached states.
    instruction : task of queries, "Instruct: {task}\nQuery: {text}"; documents are bare. symmetric : documents and plain texts get it too.
    append_eos : after truncation, so that long texts keep it. normalize : vectors of length 1.
    compat : "released" counts the instruction without BOS, as the released code does, so that its last token is pooled.
    plain : only sentence-transformers' own modules (`mean` or `eos`, families whose config has the switch), so that it opens the model; the
        first piece of a text that takes in an instruction's last space is then counted as instruction, as that library counts.

    Returns vectors (n, d) in the width of the model. Raises `CheckpointError` for a model that can't be made bidirectional.
    """

    paper = Paper("NV-Embed: Improved Techniques for Training LLMs as Generalist Embedding Models", "Lee et al.", 2025, "2405.17428")
    summary = "a decoder read both ways, pooled by latent attention; to be trained first"
    stock = False

    pooling: Literal["latent", "self-attention", "mean", "eos"] = "latent"
    bidirectional: bool = True
    variant: Literal["released", "paper"] = "released"
    latents: PositiveInt = 512
    heads: PositiveInt = 8
    dim_head: PositiveInt | None = None
    ff_mult: PositiveInt = 4
    dense: bool = False
    instruction: str = ""
    symmetric: bool = False
    append_eos: bool = True
    normalize: bool = True
    compat: Literal["released"] | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        if self.plain and self.pooling not in ("mean", "eos"):
            raise ParameterError(f"nv-embed: plain=true: pooling={self.pooling} is no module of sentence-transformers: take mean or eos")

    def build(self, source: str | Path, *, max_tokens: int | None = None, device: str = "cpu", dtype: str = "auto") -> SentenceTransformer:
        kind = Transformer if self.plain else Decoder
        body = open_transformer(source, max_tokens=max_tokens, device=device, dtype=dtype, kind=kind)
        return self.around(body).to(device).eval()

    def around(self, body: Transformer) -> SentenceTransformer:
        way = switch(body.model) if self.bidirectional else "causal"
        if isinstance(body, Decoder):
            body.attention, body.compat = way, self.compat
        elif way == "mask":
            raise CheckpointError(f"{body.model.config.model_type}: its config has no switch, so plain=true can't be had")
        tokenizer = body.tokenizer
        if self.append_eos:
            append_eos(tokenizer)
        tokenizer.padding_side = "right"  # type: ignore[union-attr]  # a text model has one
        width = int(body.get_embedding_dimension())
        modules: list[torch.nn.Module] = [body, self._head(width)]
        if self.dense:
            modules.append(Dense(width, width, activation_function=torch.nn.Identity()))
        if self.normalize:
            modules.append(Normalize())
        prompt = instructed(self.instruction)
        prompts = {"query": prompt, "document": prompt if self.symmetric else ""} if prompt else None
        default = "query" if prompt and self.symmetric else None
        return SentenceTransformer(modules=modules, prompts=prompts, default_prompt_name=default, device="cpu")

    def _head(self, width: int) -> torch.nn.Module:
        if self.plain:
            stock: torch.nn.Module = Pooling(width, "mean" if self.pooling == "mean" else "lasttoken", include_prompt=False)
            return stock
        if self.pooling == "mean" or self.pooling == "eos":
            return MaskedPooling(width, self.pooling)
        if self.variant == "paper" and width % self.heads:
            raise ParameterError(f"nv-embed: heads={self.heads}: the paper's form cuts the width {width} into heads: take a divisor")
        keys: Literal["latents", "tokens"] = "latents" if self.pooling == "latent" else "tokens"
        return LatentAttention(
            width, keys=keys, variant=self.variant, latents=self.latents, heads=self.heads, dim_head=self.dim_head, ff_mult=self.ff_mult
        )
