"""How to train: every setting of a run, checked, with its source.

Enters: fields by name. Leaves: a `Training`, or an error that names the field, the value and what it accepts.
"""

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import ConfigDict, ValidationError, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from regraft.errors import ParameterError
from regraft.training.objectives import Objective
from regraft.training.trainable import Quantize, check_frozen_rows, check_lora_tables, check_quantize

Share = Annotated[float, Ge(0), Lt(1)]


# The zip-tie recipe of Bailong (arXiv 2404.00862): 4-bit base, adapters on every linear layer, embedding and head. The rank follows from
# the reported 4.6 % of trained parameters; alpha, dropout, rate and warm-up are ours, the paper's are not published.
QLORA: dict[str, Any] = {
    "parameters": "lora", "quantize": "nf4", "lora_tables": True, "untie": True, "lora_r": 128, "lora_alpha": 128, "lora_dropout": 0.05,
    "block": 2048, "lr": 2e-4, "warmup": 0.03, "replay": 0.1,
}  # fmt: skip
# For minutes on a desktop instead of the paper's two epochs on a GPU: small steps in number, large in size, and old rows left alone.
SHORT: dict[str, Any] = {
    "block": 128, "align_documents": True, "batch_size": 8, "accumulate": 1, "lr": 1e-3, "freeze_old_rows": True,
}  # fmt: skip


@pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Training:
    """How to train. Defaults are those of Yamaguchi et al. (arXiv 2406.11477, released code) unless said otherwise.

    Attributes
    ----------
    parameters : what trains, see `regraft.training.trainable.select`; or "2-stage": first "embeddings", then "lora", on the text that
        follows, each with a schedule of its own. first_stage : the first's share of the budget (ours).
    objective : "clm" next token; "mtp" next token and, by a second head that is dropped at the end, the one after; "mlm" masked tokens.
    steps, minutes, epochs : the budget, one of the three. With minutes, the schedule follows the clock, so it too ends at zero. The paper
        takes 2 epochs.
    most_minutes : where a training in steps or epochs ends if it takes longer, a step at least; the run then says so. The schedule follows
        the steps, so that without reaching it a busy machine trains what a quiet one does (ours).
    clock : what `minutes` are: of the wall clock, or of processor time over all threads, which a busy machine does not shorten.
    block : tokens in a block. align_documents : begin blocks where documents begin (see `regraft.training.packing.pack`); in short blocks
        a model otherwise unlearns how text starts. batch_size : blocks in a forward pass. accumulate : passes in a step.
    precision : "bf16" runs the passes under autocast; weights, gradients and moments stay in the model's own dtype.
    lr : peak learning rate of AdamW, reached after the share `warmup` of the budget, then a cosine to zero.
    weight_decay : of matrices; not of biases and norms, never of frozen rows.
    replay : share of blocks that come from `replay_texts`, [0, 1).
    freeze_old_rows : the tables train only in their new rows, also in "embeddings", "2x2" and "lora"; not with `lora_tables`.
    lora_r, lora_alpha, lora_dropout, lora_tables : see `regraft.training.adapters.LoraOptions`.
    lora_merge : whether `regraft adapt` writes the merged model, or the model as started with the adapters beside it in ``adapter/``.
    quantize : "nf4" holds the linear layers in NF4 with double quantization while adapters, rows or tables train (QLoRA).
    untie : part a tied embedding and head before training, which adapters on both need.
    checkpoint_every : seconds between saved states, if there is a directory to save them in (ours).
    evaluate_every : steps (or minutes, if the budget is in minutes) between calls of `on_evaluate`; None: at the start and the end only.

    Raises `ParameterError` naming the field, the value and what it accepts.
    """

    name: ClassVar[str] = "training"

    parameters: Literal["rows", "embeddings", "2x2", "lora", "adapters", "2-stage", "all", "marked"] = "2x2"
    first_stage: Annotated[float, Gt(0), Lt(1)] = 0.5
    objective: Objective = "clm"
    steps: Annotated[int, Ge(1)] | None = None
    most_minutes: Annotated[float, Gt(0)] | None = None
    minutes: Annotated[float, Gt(0)] | None = None
    epochs: Annotated[float, Gt(0)] | None = None
    clock: Literal["wall", "process"] = "wall"
    block: Annotated[int, Ge(4)] = 512
    align_documents: bool = False
    batch_size: Annotated[int, Ge(1)] = 4
    accumulate: Annotated[int, Ge(1)] = 2
    lr: Annotated[float, Gt(0)] = 1e-4
    warmup: Share = 0.05
    weight_decay: Annotated[float, Ge(0)] = 0.01
    precision: Literal["fp32", "bf16"] = "fp32"
    replay: Share = 0.0
    seed: Annotated[int, Ge(0)] = 0
    freeze_old_rows: bool = False
    lora_r: Annotated[int, Ge(1)] = 8
    lora_alpha: Annotated[float, Gt(0)] = 32
    lora_dropout: Share = 0.05
    lora_tables: bool = False
    lora_merge: bool = True
    quantize: Quantize = "none"
    untie: bool = False
    checkpoint_every: Annotated[float, Ge(0)] = 300
    evaluate_every: Annotated[float, Gt(0)] | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: Any) -> Any:
        try:
            training = handler(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "?"
            raise ParameterError(f"training: {where}={first['input']!r} is not accepted: {first['msg'].lower()}") from None
        budget = {name: getattr(training, name) for name in ("steps", "minutes", "epochs")}
        if sum(value is not None for value in budget.values()) != 1:
            given = ", ".join(f"{name}={value}" for name, value in budget.items())
            raise ParameterError(f"training: {given}: give the budget as one of the three")
        if training.parameters == "2-stage" and training.steps == 1:
            raise ParameterError("training: steps=1 with parameters='2-stage': two stages need two steps or more")
        check_quantize(training.parameters, training.quantize)
        check_frozen_rows(training.parameters, training.freeze_old_rows, training.lora_tables)
        check_lora_tables(training.parameters, training.lora_tables)
        return training

    @property
    def keeps_adapters(self) -> bool:
        """Whether adapters are trained that `regraft adapt` writes beside the model."""
        return self.parameters in ("lora", "adapters", "2-stage") and not self.lora_merge

    def stages(self, blocks: float, processes: int = 1) -> list["Training"]:
        """What is trained one after the other, each with its budget in steps or minutes, where `blocks` make an epoch."""
        steps, minutes = self.steps, self.minutes
        if self.epochs is not None:
            steps = max(1, math.ceil(self.epochs * blocks / (self.batch_size * self.accumulate * processes)))
        if self.parameters != "2-stage":
            return [replace(self, steps=steps, epochs=None)]
        if minutes is not None:
            shares = self.first_stage, 1 - self.first_stage
            budgets: list[dict[str, Any]] = [{"minutes": minutes * share} for share in shares]
        else:
            count = max(steps or 2, 2)
            early = min(max(1, round(count * self.first_stage)), count - 1)
            budgets = [{"steps": early, "epochs": None}, {"steps": count - early, "epochs": None}]
        return [replace(self, parameters="embeddings", **budgets[0]), replace(self, parameters="lora", **budgets[1])]

    def learning_rate(self, progress: float) -> float:
        """Learning rate after the share `progress` of the budget, [0, 1]."""
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - self.warmup) / (1 - self.warmup))))
