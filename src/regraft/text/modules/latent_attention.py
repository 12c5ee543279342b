"""Attention between a model's states and their pooling: to a trained array of latents, or to the text's own states."""

from typing import Any, Literal

import torch
from sentence_transformers.base.modules.module import Module
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from regraft.text.modules.masked_pooling import masked_mean

Tokens = torch.Tensor  # (batch, tokens, d)


class GatedGelu(nn.Module):
    """First half times GELU of the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * gelu(gate)


class LatentAttention(Module):
    r"""Latent attention and the mean (NV-Embed, section 3.1).

    Released form: :math:`H_1 = H + \mathrm{softmax}(Q K^\top / \sqrt{d_h}) V W_o` with :math:`Q = \mathrm{LN}(H) W_q`,
    :math:`[K, V] = \mathrm{LN}(Z) W_{kv}`; :math:`H_2 = H_1 + \mathrm{FF}(\mathrm{LN}(H_1))`, FF with a GELU gate; the mean of
    :math:`H_2` over the pooled tokens. Paper's form: :math:`\mathrm{MLP}(\mathrm{softmax}(H Z^\top) Z)` by heads, without projections,
    norms, residuals or a scale; the MLP has two layers of width d with GELU between (its width is inferred).

    With `keys="latents"` a token's output hangs on no other token. With `keys="tokens"` keys are the text's own states: the self-attention
    that the paper compares.

    Parameters
    ----------
    dimension : d. latents : r, rows of Z, drawn from N(0, 1). dim_head : width a head, in the released configuration d itself.
    ff_mult : the gate's width in d. trained : whether it has been in a training step; set by itself.

    Returns (B, d) in float32, whatever the width of the states' numbers.
    """

    config_keys = ["dimension", "keys", "variant", "latents", "heads", "dim_head", "ff_mult", "trained"]  # noqa: RUF012  # as the library declares it

    def __init__(
        self,
        dimension: int,
        *,
        keys: Literal["latents", "tokens"] = "latents",
        variant: Literal["released", "paper"] = "released",
        latents: int = 512,
        heads: int = 8,
        dim_head: int | None = None,
        ff_mult: int = 4,
        trained: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # theirs
        self.dimension, self.keys, self.variant = dimension, keys, variant
        self.latents, self.heads, self.ff_mult, self.trained = latents, heads, ff_mult, trained
        self.dim_head = dimension if dim_head is None else dim_head
        if variant == "paper" and dimension % heads:
            raise ValueError(f"heads={heads}: the paper's form cuts the width {dimension} into heads: take a divisor")
        if keys == "latents":
            self.array = nn.Parameter(torch.randn(latents, dimension))
        if variant == "paper":
            self.mlp = nn.Sequential(nn.Linear(dimension, dimension), nn.GELU(), nn.Linear(dimension, dimension))
            return
        inner = heads * self.dim_head
        self.norm_states, self.norm_keys, self.norm_ff = (nn.LayerNorm(dimension) for _ in range(3))
        self.q = nn.Linear(dimension, inner, bias=False)
        self.kv = nn.Linear(dimension, 2 * inner, bias=False)
        self.out = nn.Linear(inner, dimension, bias=False)
        wide = ff_mult * dimension
        self.ff = nn.Sequential(nn.Linear(dimension, 2 * wide), GatedGelu(), nn.Linear(wide, dimension))

    def token_states(self, states: Tokens, attention_mask: torch.Tensor) -> Tokens:
        """H_2, before the mean."""
        if self.keys == "latents":  # a token's output is its own: no padding is computed
            real = attention_mask.bool()
            found = torch.zeros_like(states)
            found[real] = self._head(states[real][None], self.array[None], None)[0]
            return found
        return self._head(states, states, attention_mask.bool()[:, None, None, :])

    def attend(self, states: Tokens, keys: Tokens, mask: torch.Tensor | None = None) -> Tokens:
        """What attention alone gives, before W_o's residual or the MLP."""
        if self.variant == "paper":
            return _joined(scaled_dot_product_attention(self._split(states), self._split(keys), self._split(keys), mask, scale=1.0))
        k, v = self.kv(self.norm_keys(keys)).chunk(2, dim=-1)
        q = self._split(self.q(self.norm_states(states)))
        found: torch.Tensor = self.out(_joined(scaled_dot_product_attention(q, self._split(k), self._split(v), mask)))
        return found

    def _head(self, states: Tokens, keys: Tokens, mask: torch.Tensor | None) -> Tokens:
        attended = self.attend(states, keys, mask)
        if self.variant == "paper":
            mapped: torch.Tensor = self.mlp(attended)
            return mapped
        first = states + attended
        second: torch.Tensor = first + self.ff(self.norm_ff(first))
        return second

    def _split(self, x: Tokens) -> torch.Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        self.trained = self.trained or self.training
        states = self.token_states(features["token_embeddings"].float(), features["attention_mask"])
        return features | {"sentence_embedding": masked_mean(states, features)}

    def get_embedding_dimension(self) -> int:
        return self.dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> "LatentAttention":
        placed = {name: kwargs[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in kwargs}
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **placed)
        loaded: LatentAttention = cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=cls(**config), **placed)
        return loaded


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(-2)
