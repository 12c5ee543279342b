"""A word's network: another vector for every time of denoising and layer of cross-attention."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from regraft.concepts.concept import Concept
from regraft.concepts.host.pipeline import KEYS, Conditioning
from regraft.concepts.host.words import Rows
from regraft.concepts.spacetime.networks import Mapper, Network, Shape, network
from regraft.concepts.spacetime.readers import readers_of, reading_by
from regraft.errors import CheckpointError, ParameterError

FILE = "mapper.safetensors"
ROW = "row."  # and the tower's key
ANCHORS = 10  # in time, of the released code
RELEASED = {  # what its state_dict calls our layers; the first one is in it twice
    "input_layer": "anchor",
    "net.1": "body.0",
    "net.2": "body.1",
    "net.4": "body.3",
    "net.5": "body.4",
    "output_layer.0": "out",
}


@dataclass(frozen=True, eq=False)
class MapperConcept(Concept):
    """`net` : the word's network. `row` : (1, width) by tower, of the word it is a case of, `init`. `keep` : hidden units, None for all."""

    kind = "mapper"
    word: str
    net: Network
    row: Rows
    init: str = ""
    keep: int | None = None

    def words(self) -> dict[str, Rows]:
        """The plain row: the pooled vector of XL is made with it, while learning and while drawing."""
        return {self.word: self.row}

    def installed(self, pipeline: Any) -> AbstractContextManager[Any]:
        return reading_by(pipeline, self.word, self.net.to(pipeline.unet.device), self.keep)

    def conditioned(self, pipeline: Any, prompts: Sequence[str], context: Conditioning) -> Conditioning:
        return readers_of(pipeline, self.word).conditioned(prompts, context)

    def truncated(self, count: int) -> "MapperConcept":
        """With its first `count` hidden units alone: fewer are coarser and leave more to the prompt."""
        most = self.net.hidden
        if not most:
            raise ParameterError(f"--truncate {count}: {self.word} has a free vector for each layer: there is nothing to cut off")
        if not 0 <= count <= most:
            raise ParameterError(f"--truncate {count}: {self.word} has {most} hidden units: give 0 to {most}")
        return MapperConcept(self.word, self.net, self.row, self.init, count)

    def write(self, folder: Path) -> None:
        tensors = {key: value.detach().float().cpu().contiguous() for key, value in self.net.state_dict().items()}
        tensors |= {ROW + key: value.detach().float().cpu().contiguous() for key, value in self.row.items()}
        save_file(tensors, folder / FILE, metadata={"format": "pt", "word": self.word})

    def facts(self) -> dict[str, Any]:
        return {"init": self.init, "keep": self.keep, "net": self.net.facts()}

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "MapperConcept":
        tensors = _tensors(folder / FILE)
        row = {key.removeprefix(ROW): tensors.pop(key) for key in sorted(tensors) if key.startswith(ROW)}
        found = cls(facts["word"], _filled(network(facts["net"]), tensors, folder / FILE), row, facts.get("init", ""))
        return found if facts.get("keep") is None else found.truncated(facts["keep"])

    @classmethod
    def read_file(cls, path: Path, word: str | None = None) -> "MapperConcept":
        """A mapper of the released code, once its tensors stand in a .safetensors file. Raises `CheckpointError`: a pickle, another file.

        The file holds the tensors of its `state_dict`, the random frequencies of its `encoder` as `w` (1024, 2), and the row of its
        `learned_embeds` file as `row`, whose length is that of the vectors. Ten anchors in time, both outputs scaled as one vector.
        """
        if path.suffix != ".safetensors":
            raise CheckpointError(
                f"{path}: a pickle is never opened: save its state_dict, its encoder's w as 'w' and the row of its learned_embeds as 'row'"
                " in one mapper.safetensors"
            )
        tensors = _tensors(path)
        given = {key: value for key, value in tensors.items() if not key.startswith("net.0.")}
        try:
            row, w = given.pop("row").reshape(1, -1), given.pop("w")
            width, out = row.shape[1], len(given["output_layer.0.bias"])
            shape = Shape(
                widths={KEYS[0]: width},
                lengths={KEYS[0]: float(row.norm())},
                layers=len(given["input_layer.bias"]) // ANCHORS,
                hidden=len(given["net.1.bias"]),
                anchors=ANCHORS,
                frequencies=len(w),
                bypass=out != width,
                norm="joint",
            )
            named = {_ours(key): value for key, value in given.items()}
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path}: not a mapper of the released code: it has no {error}") from None
        return cls(word or f"<{path.stem}>", _filled(Mapper(shape), {**named, "w": w}, path), {KEYS[0]: row})


def _ours(key: str) -> str:
    layer, _, part = key.rpartition(".")
    return f"{RELEASED[layer]}.{part}"


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        found = load_file(path)
    except Exception as error:  # safetensors has an error class of its own
        raise CheckpointError(f"{path}: not a safetensors file that can be read ({error})") from None
    if odd := [key for key, value in found.items() if not bool(value.isfinite().all())]:
        raise CheckpointError(f"{path}: {odd[0]} holds numbers that are not finite")
    return {key: value.float() for key, value in found.items()}


def _filled(net: Network, tensors: Mapping[str, torch.Tensor], path: Path) -> Network:
    """The network with its weights, to be used and not to be learned."""
    try:
        net.load_state_dict(dict(tensors))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: not the weights of the network that is told beside it: {told}") from None
    return net.eval().requires_grad_(False)
