"""Spaces of small architectures that a hypernetwork is trained on: deep and narrow or shallow and wide, alike in size (section 2.8).

Enters: a name or a YAML file. Leaves: `Space.draw`, one config at a time; the same generator draws the same configs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import transformers
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regraft.errors import ParameterError
from regraft.grow.predict.targets import Target, config_of

DRAWS = 200  # before a space counts as empty


class Tier(BaseModel):
    """Depths and widths that go together, ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    depth: tuple[int, int]
    width: tuple[int, int]


class Space(BaseModel):
    """A family of architectures.

    Attributes
    ----------
    model_type, base : the `transformers` type, and config fields that all members share.
    depth : smallest and largest; drawn evenly. tiers : which widths belong to which depths. step : widths are multiples of it.
    heads : numbers of heads to draw from, of those that divide the width; "divisibility": 3, 6, 12 where 12 divides the width, 3, 6 where 6
        does, 3 where 3 does, else 4, 8. mlp_ratio : width of the perceptron by that of the model.
    max_parameters : members are not larger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    model_type: str
    base: dict[str, Any] = Field(default_factory=dict)
    depth: tuple[int, int]
    tiers: tuple[Tier, ...]
    step: int = Field(default=8, ge=1)
    heads: tuple[int, ...] | Literal["divisibility"] = "divisibility"
    mlp_ratio: float = Field(default=4, gt=0)
    max_parameters: int = Field(default=10_000_000, ge=1)

    def fields(self, depth: int, width: int, heads: int, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Config fields of one member, or of a model of the same kind outside of the space."""
        names = getattr(transformers.CONFIG_MAPPING[self.model_type], "attribute_map", {})
        own = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
        inner = {"gpt2": "n_inner"}.get(self.model_type, names.get("intermediate_size", "intermediate_size"))
        sized = {names.get(field, field): value for field, value in own.items()} | {inner: int(self.mlp_ratio * width)}
        shared = {names.get(field, field): value for field, value in {**self.base, **(base or {})}.items()}
        return {"model_type": self.model_type, **shared, **sized}

    def draw(self, rng: np.random.Generator, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Config fields of a random member. Raises `ParameterError` where none is small enough."""
        for _ in range(DRAWS):
            depth = int(rng.integers(self.depth[0], self.depth[1] + 1))
            tier = next((one for one in self.tiers if one.depth[0] <= depth <= one.depth[1]), None)
            if tier is None:
                raise ParameterError(f"the space has no widths for a depth of {depth}: add a tier, or change depth")
            widths = range(-(-tier.width[0] // self.step) * self.step, tier.width[1] + 1, self.step)
            if not widths:
                raise ParameterError(f"the space has no multiple of step {self.step} from {tier.width[0]} to {tier.width[1]}")
            width = int(rng.choice(widths))
            heads = self._heads(width)
            if heads and self.size(fields := self.fields(depth, width, int(rng.choice(heads)), base)) <= self.max_parameters:
                return fields
        raise ParameterError(
            f"no member of the space has at most {self.max_parameters:,} parameters: raise max_parameters or make tiers narrower"
        )

    def _heads(self, width: int) -> list[int]:
        if self.heads != "divisibility":
            return [one for one in self.heads if width % one == 0]
        fitting = next((known for by, known in ((12, [3, 6, 12]), (6, [3, 6]), (3, [3])) if width % by == 0), [4, 8])
        return [one for one in fitting if width % one == 0]

    @staticmethod
    def size(fields: Mapping[str, Any]) -> int:
        """Parameters of a member, counted without allocating them."""
        key = tuple(sorted((name, str(value)) for name, value in fields.items()))
        if key not in _SIZES:
            _SIZES[key] = Target(config_of(fields)).parameters
        return _SIZES[key]


_SIZES: dict[tuple[tuple[str, str], ...], int] = {}
VITS_1K = Space(
    model_type="vit",
    depth=(3, 9),
    tiers=(Tier(depth=(6, 9), width=(128, 256)), Tier(depth=(4, 5), width=(256, 384)), Tier(depth=(3, 3), width=(384, 512))),
    step=32,
)
GPTS_1K = Space(
    model_type="gpt2",
    base={"tie_word_embeddings": False},
    depth=(3, 9),
    tiers=(Tier(depth=(6, 9), width=(72, 176)), Tier(depth=(4, 5), width=(128, 176)), Tier(depth=(3, 3), width=(176, 256))),
    step=8,
    heads=(8,),
    max_parameters=30_000_000,
)
VITS_DIGITS = Space(
    model_type="vit", depth=(2, 3), tiers=(Tier(depth=(2, 3), width=(16, 32)),), step=4, heads=(4,), mlp_ratio=2, max_parameters=100_000
)
SPACES = {"vits-1k": VITS_1K, "gpts-1k": GPTS_1K, "vits-digits": VITS_DIGITS}


def read_space(name: str) -> Space:
    """A space by name, or from a YAML file. Raises `ParameterError`."""
    if name in SPACES:
        return SPACES[name]
    path = Path(name)
    if not path.is_file():
        raise ParameterError(
            f"{name}: no such space or file: choose one of {', '.join(SPACES)}, or write a YAML file with model_type, depth, tiers"
        )
    try:
        space = Space.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ParameterError(f"{path}: {'.'.join(str(one) for one in first['loc']) or 'space'}: {first['msg'].lower()}") from None
    if space.model_type not in transformers.CONFIG_MAPPING:
        raise ParameterError(f"{path}: model_type {space.model_type!r} is not one that transformers knows")
    return space
