"""A word beside weights of the U-Net that were tuned for it, both in the files that diffusers loads."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from regraft.concepts.concept import Concept
from regraft.concepts.host.words import Rows
from regraft.concepts.kinds.word import WordConcept
from regraft.errors import CheckpointError, ParameterError

FOLDER, FILE, CONFIG = "unet", "diffusion_pytorch_model.safetensors", "config.json"


def config_of(unet: Any) -> dict[str, Any]:
    """What diffusers writes beside the weights of a U-Net."""
    found: dict[str, Any] = json.loads(unet.to_json_string())
    return found


@dataclass(frozen=True, eq=False)
class FinetunedConcept(Concept):
    """A word and a tuned U-Net.

    Attributes
    ----------
    rows : by tower, (n, width) each, the pieces of `word`; none where prompts call the concept by a word that is known already.
    unet : every weight of the U-Net by its name. config : of the U-Net, by `config_of`.
    init : the word they started from.
    """

    kind = "finetuned"
    word: str
    unet: Mapping[str, torch.Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    rows: Rows = field(default_factory=dict)
    init: str = ""

    def words(self) -> dict[str, Rows]:
        return {self.word: self.rows} if self.rows else {}

    @contextmanager
    def installed(self, pipeline: Any) -> Iterator[Any]:
        """The pipeline with this U-Net's weights. Raises `ParameterError` where they are those of another kind of U-Net."""
        with weights(pipeline.unet, self.unet, self.word):
            yield pipeline

    def write(self, folder: Path) -> None:
        """`learned_embeds.safetensors`, and `unet/` as `UNet2DConditionModel.from_pretrained` opens it."""
        if self.rows:
            WordConcept(self.word, self.rows, self.init).write(folder)
        (folder / FOLDER).mkdir()
        save_file({name: value.detach().cpu().contiguous() for name, value in self.unet.items()}, folder / FOLDER / FILE, {"format": "pt"})
        (folder / FOLDER / CONFIG).write_text(json.dumps(dict(self.config), indent=2) + "\n", encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        return {"init": self.init, "towers": {key: list(value.shape) for key, value in self.rows.items()}}

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "FinetunedConcept":
        word = WordConcept.read(folder, facts) if facts["towers"] else None
        try:
            unet = load_file(folder / FOLDER / FILE)
            config = json.loads((folder / FOLDER / CONFIG).read_text(encoding="utf-8"))
        except Exception as error:  # safetensors has an error class of its own
            raise CheckpointError(f"{folder / FOLDER}: not weights of a U-Net that can be read ({error})") from None
        return cls(facts["word"], unet, config, word.rows if word else {}, facts.get("init", ""))


@contextmanager
def weights(unet: Any, given: Mapping[str, torch.Tensor], word: str) -> Iterator[None]:
    """`unet` with the weights `given`, and with its own again afterwards, to the bit."""
    own = dict(unet.named_parameters())
    odd = sorted(own.keys() ^ given.keys()) or [name for name, value in own.items() if value.shape != given[name].shape]
    if odd:
        raise ParameterError(f"the weights of {word} are those of another U-Net ({odd[0]}, ...): give the pipeline that it was learned on")
    before = {name: value.data for name, value in own.items()}
    for name, value in own.items():
        value.data = given[name].to(value.data)
    try:
        yield
    finally:
        for name, value in own.items():
            value.data = before[name]


@contextmanager
def trainable(unet: Any) -> Iterator[dict[str, nn.Parameter]]:
    """Its parameters by name, to be learned in float32; afterwards it is frozen, with its own weights, to the bit."""
    given = dict(unet.named_parameters())
    before = {name: value.data for name, value in given.items()}
    for value in given.values():
        value.data = value.data.float().clone()
        value.requires_grad_(True)
    try:
        yield given
    finally:
        for name, value in given.items():
            value.requires_grad_(False)
            value.grad, value.data = None, before[name]
