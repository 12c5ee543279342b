"""What a U-Net attends to: each embedding as one token. Enters: embeddings, levels side by side. Leaves: (batch, levels, width)."""

from collections.abc import Sequence

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional


class EmbeddingConditioner(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    r"""A linear map a level: :math:`c_l = W_l\, z_l / \lVert z_l \rVert + b_l`.

    A zero vector stands for an embedding that is missing or was dropped; its token is :math:`b_l`, the null condition. Two levels (a
    patch and the region around it) are two tokens, each from a map of its own.

    Parameters
    ----------
    levels : width of each level's embedding. width : of the tokens, `cross_attention_dim` of the U-Net (512 in the paper).
    normalize : divide each embedding by its length.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, levels: Sequence[int] = (384,), width: int = 512, normalize: bool = True) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(size, width) for size in levels)

    @property
    def size(self) -> int:
        """Width of a row of embeddings: of all levels together."""
        return sum(self.config.levels)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(batch, size) embeddings as (batch, levels, width) tokens."""
        parts = torch.split(embeddings, list(self.config.levels), dim=1)
        if self.config.normalize:
            parts = tuple(functional.normalize(part, dim=1) for part in parts)
        return torch.stack([own(part) for own, part in zip(self.maps, parts, strict=True)], dim=1)

    def null(self) -> Tensor:
        """(1, levels, width) tokens of no embedding: the maps' biases."""
        return torch.stack([own.bias for own in self.maps])[None]  # type: ignore[misc]  # a module list does not say of what

    def dropped(self, embeddings: Tensor, p: float, generator: torch.Generator | None = None) -> Tensor:
        """`embeddings` with each level, by a coin of its own, replaced by the zero vector with probability `p`."""
        parts = torch.split(embeddings, list(self.config.levels), dim=1)
        coins = torch.rand(len(embeddings), len(parts), generator=generator).to(embeddings.device) >= p
        return torch.cat([part * coin[:, None] for part, coin in zip(parts, coins.unbind(1), strict=True)], dim=1)
