"""Cross initialization: a new word starts as what the text tower makes of a known one, near to where learning ends."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from regraft.concepts.host.pipeline import pieces, spelled, towers
from regraft.concepts.host.words import Rows, rows_of, spliced
from regraft.concepts.learning import Step, learn_rows
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.errors import CorpusError, ParameterError
from regraft.method import Paper

Layer = Literal["last", "penultimate"]
FAST_STEPS, FACE_VECTORS = 25, 2
APART = 1e-6  # keeps the gradient of a length finite at zero
PLACEHOLDER = "<|start-of-a-new-word|>"


class CrossInitialization(ConceptMethod):
    r"""Output vectors of the text tower become the input rows of a new word; learning moves them a little.

    .. math:: v_0 = E(\text{BOS}, T_{w_1}, \dots, T_{w_n}, \text{EOS})_{1..n}, \qquad
              L = \lVert \epsilon - \epsilon_\theta(z_t, t, E(y; v)) \rVert^2 + \frac{\lambda}{n} \sum_i \lVert v_i - v_{0,i} \rVert_2

    :math:`E` is the tower with its final normalization, :math:`T` its ``(vocabulary, width)`` table. A learned row is far longer than the
    row of a word and looks elsewhere; it is near to what the tower puts out, so that is where it starts. Of a list of names
    :math:`T_{w_i}` is the mean over the i-th pieces of all names that have one, taken before the one pass of the tower. XL: each
    tower by itself. Lengths and the cosine to :math:`v_0` are told after learning. The paper's figures are of faces.

    INFERRED: that the distance is not squared in the paper either (as in the authors' code; `squared` changes it), the learning rate of
    the fast mode (`fast_lr`: the way to go in 320 steps at `lr`, gone in 25), and the layer for XL (`layer`).

    Attributes
    ----------
    start : rows before learning: "cross"; "raw", the known word's own as textual inversion; "mean" of the table; "random" as its rows lie.
    names : file of names, one a line: the start is their mean in place of the known word. The paper has 691 of well-known people.
    vectors : pieces of the word; the known ones are repeated or cut to as many. By default as many as there are; 2 with `names`.
    lam : weight of the distance to the start; the paper advises it beside "cross" alone, so give 0 with other starts.
    squared : square that distance.
    layer : of the tower whose output is the start; XL's U-Net reads the one before the last.
    fast : 25 steps in place of `steps`.
    fast_lr : learning rate of the fast mode.
    flip : how often an image is mirrored.
    weight_decay : of AdamW, on the rows.
    """

    paper = Paper("Cross Initialization for Face Personalization of Text-to-Image Models", "Pang et al.", 2024, "2312.15905")
    summary = "a word starts as what the text tower puts out for a known one"

    steps: PositiveInt = 320
    batch: PositiveInt = 8
    lr: PositiveFloat = 5e-3
    start: Literal["cross", "raw", "mean", "random"] = "cross"
    names: Path | None = None
    vectors: PositiveInt | None = None
    lam: NonNegativeFloat = 1e-5
    squared: bool = False
    layer: Layer = "last"
    fast: bool = False
    fast_lr: PositiveFloat = 6.4e-2
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_decay: NonNegativeFloat = 1e-2

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        start = self.rows(lesson.pipeline, lesson.init, plan.seed)

        def pull(step: Step, rows: Mapping[str, nn.Parameter]) -> torch.Tensor:
            return self.lam * torch.stack([distance(rows[key], value, squared=self.squared) for key, value in start.items()]).sum()

        paced = replace(self, steps=FAST_STEPS, lr=self.fast_lr) if self.fast else self
        return learn_rows(lesson, plan, paced, start, flip=self.flip, weight_decay=self.weight_decay, extra=pull if self.lam else None)

    def rows(self, pipeline: Any, init: str, seed: int = 0) -> Rows:
        """The rows before learning, (vectors, width) for each tower."""
        known = mean_of_names(pipeline, self.names, self.vectors or FACE_VECTORS) if self.names else rows_of(pipeline, init)
        count = self.vectors or len(next(iter(known.values())))
        sized = {key: value.repeat(-(-count // len(value)), 1)[:count].float() for key, value in known.items()}
        if self.start == "cross":
            return put_out(pipeline, sized, self.layer)
        if self.start == "raw":
            return sized
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for tower in towers(pipeline):
            table = tower.table.float()
            spread = torch.randn(count, tower.width, generator=generator).to(table) * table.std(0) if self.start == "random" else 0
            found[tower.key] = table.mean(0).expand(count, -1) + spread
        return found


def put_out(pipeline: Any, rows: Rows, layer: Layer = "last") -> dict[str, torch.Tensor]:
    """What each tower puts out at the places of `rows` (n, width), which stand alone between its start and its end."""
    found = {}
    with spliced(pipeline, {PLACEHOLDER: rows}), torch.no_grad():
        for tower in towers(pipeline):
            ids, count = pieces(pipeline, PLACEHOLDER, tower), len(rows[tower.key])
            if count + 2 > len(ids):
                raise ParameterError(f"vectors={count}: more pieces than a prompt of this pipeline holds ({len(ids) - 2})")
            out = tower.encoder(torch.tensor([ids], device=tower.table.device), output_hidden_states=layer == "penultimate")
            states = out.last_hidden_state if layer == "last" else out.hidden_states[-2]
            found[tower.key] = states[0, 1 : count + 1].float().clone()
    return found


def mean_of_names(pipeline: Any, file: Path, count: int) -> dict[str, torch.Tensor]:
    """Mean row (count, width) of the first, second, ... pieces of all names that have one, for each tower.

    Raises `CorpusError`: no such file, none in it, or none of so many pieces.
    """
    if not file.is_file():
        raise CorpusError(f"names={file}: no such file: give one with a name a line")
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise CorpusError(f"names={file}: no name in it: give a file with a name a line")
    found = {}
    for tower in towers(pipeline):
        ids = [spelled(pipeline, name, tower) for name in names]
        columns = [[one[place] for one in ids if len(one) > place] for place in range(count)]
        if short := [place for place, column in enumerate(columns, 1) if not column]:
            raise CorpusError(
                f"names={file}: {len(names)} names, none of {short[0]} pieces: give other names, or set vectors={short[0] - 1}"
            )
        found[tower.key] = torch.stack([tower.table[column].float().mean(0) for column in columns])
    return found


def distance(rows: torch.Tensor, start: torch.Tensor, *, squared: bool = False) -> torch.Tensor:
    """Mean over rows (n, width) of their distance to the start."""
    apart = (rows - start.to(rows)).square().sum(1)
    return (apart if squared else (apart + APART**2).sqrt()).mean()
