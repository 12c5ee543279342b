"""What lies in an encoded prompt: its components, how much of each the words and the padding hold, and the prompt without some of them.

Enters: rows (length, d) of one prompt. Leaves: figures, and rows of the same shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regraft.concepts.host.pipeline import Conditioning, pieces, towers
from regraft.concepts.steering.places import places
from regraft.concepts.steering.projection import Basis, lost
from regraft.errors import ParameterError


@dataclass(frozen=True, eq=False)
class Components:
    r"""The decomposition :math:`X = U \Sigma V^\top` of an encoded prompt, with r components.

    Attributes
    ----------
    u : (length, r). values : (r,). v : (d, r). words, padding : which rows are the words' (with start and end), and which padding's.
    """

    u: torch.Tensor
    values: torch.Tensor
    v: torch.Tensor
    words: list[int]
    padding: list[int]

    @property
    def energy(self) -> torch.Tensor:
        """Share of each component in the whole (r,)."""
        return self.values.square() / self.values.square().sum().clamp(min=1e-30)

    @property
    def in_padding(self) -> torch.Tensor:
        """Share of each component's energy that lies in padding rows (r,); the rest lies in the words'."""
        return self.u[self.padding].square().sum(0)

    @property
    def in_words(self) -> torch.Tensor:
        """Share of each component's energy that lies in the words' rows (r,)."""
        return self.u[self.words].square().sum(0)

    def rebuilt(self, *, keep: Sequence[int] | None = None, drop: Sequence[int] = ()) -> torch.Tensor:
        """The rows (length, d) from the components `keep` (None: all) without `drop`, both counted from 0, the strongest.

        Raises `ParameterError` for a component that is not there.
        """
        count = len(self.values)
        if odd := [one for one in [*(keep or ()), *drop] if not 0 <= one < count]:
            raise ParameterError(f"component {odd[0]}: this prompt has {count}, counted from 0")
        weights = torch.zeros(count, dtype=self.values.dtype)
        weights[list(range(count) if keep is None else keep)] = 1
        weights[list(drop)] = 0
        return (self.u * (self.values * weights)) @ self.v.T

    def rows(self) -> list[dict[str, Any]]:
        """A row for each component, to show."""
        told = zip(self.values, self.energy, self.in_words, self.in_padding, strict=True)
        return [
            {"component": k, "singular_value": float(s), "energy": float(e), "in_words": float(w), "in_padding": float(p)}
            for k, (s, e, w, p) in enumerate(told)
        ]


def components(rows: torch.Tensor, words: Sequence[int], padding: Sequence[int]) -> Components:
    """Decompose rows (length, d), in float64; `words` and `padding` say which are which. Raises `ParameterError` where they overlap."""
    if set(words) & set(padding) or len(words) + len(padding) != len(rows):
        raise ParameterError(f"{len(words)} rows of words and {len(padding)} of padding do not make the {len(rows)} rows of the prompt")
    u, values, turned = torch.linalg.svd(rows.detach().double(), full_matrices=False)
    return Components(u, values, turned.T, list(words), list(padding))


def components_of(pipeline: Any, prompt: str, context: Conditioning) -> Components:
    """The components of one prompt as it was encoded, or as it was steered."""
    words, end, padding = places(pipeline, prompt)
    return components(context.embeds[0].cpu(), [0, *words, end], padding)


def tokens_of(pipeline: Any, prompt: str) -> list[str]:
    """What the first tower reads at each place of a prompt, in writing."""
    tower = towers(pipeline)[0]
    told = tower.tokenizer(pipeline).convert_ids_to_tokens(pieces(pipeline, prompt, tower))
    return [str(piece).replace("</w>", "") for piece in told]


def shown_tokens(pipeline: Any, prompt: str) -> tuple[list[str], list[int]]:
    """What stands at the start, the words and the end of a prompt, and at which places."""
    names, (words, end, _) = tokens_of(pipeline, prompt), places(pipeline, prompt)
    told = [0, *words, end]
    return [names[place] for place in told], told


def losses(pipeline: Any, prompt: str, context: Conditioning, off: Basis) -> list[dict[str, Any]]:
    """For each word and the end of a prompt, and the padding's mean: the share of its row that lies in the unwanted directions."""
    names, told = shown_tokens(pipeline, prompt)
    padding = places(pipeline, prompt)[2]
    share = lost(context.embeds[0], off)
    rows = [{"token": name, "lost": float(share[place])} for name, place in zip(names, told, strict=True)]
    return rows if not padding else [*rows, {"token": "(padding)", "lost": float(share[padding].mean())}]
