"""Fine-tuning one model on one share of the examples, through the `transformers` Trainer.

Enters: a task, a checkpoint, the tables of a new vocabulary (or none), features. Leaves: a trained model. Head, order of examples, steps
and schedule depend on the seed and the settings alone, so that two vocabularies differ in nothing else.
"""

import gc
import logging
import tempfile
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from transformers import Trainer, TrainingArguments

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.tasks.task import Feature, Task, quiet

Prepare = Callable[[Any], None]  # changes a `transformers` model in place

POOL = 8  # batches of one shuffle that are filled by size together: more saves next to no padding, and mixes texts less
SHORT = 256  # tokens of a window: texts of such tasks are mostly far shorter, and there plain attention outruns the fused kernel on a CPU


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class FineTuning:
    """How every model of a comparison is fine-tuned: AdamW, linear warm-up and decay, all parameters.

    Parameters
    ----------
    steps : optimizer steps, the same at every share of the labels.
    epochs : passes over the examples instead of `steps`; a smaller share then gets fewer steps.
    batch_size : examples a step.
    lr : peak learning rate. The paper's 2e-5 is for epochs over thousands of documents; few steps need a larger one.
    warmup : share of the steps in which the learning rate rises.
    weight_decay : of AdamW, on weights that are not biases or norms.
    max_length : tokens of a text; by default 256 for tagging, 128 for classification, 512 for coding.
    """

    name: ClassVar[str] = "fine-tuning"

    steps: Annotated[int, Field(ge=1)] = 200
    epochs: Annotated[float, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    lr: Annotated[float, Field(gt=0)] = 3e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_length: Annotated[int, Field(ge=8)] | None = None

    def length(self, examples: int) -> int:
        """Steps on so many examples."""
        if self.epochs is None:
            return self.steps
        return max(1, round(self.epochs * examples / self.batch_size))


def batched_order(sizes: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Places of the examples of `steps` batches, one batch behind the other, shape (steps * batch_size,).

    Every shuffle takes each example at most once (those that fill no batch wait for the next), fills batches by size among `POOL` of them
    at a time, and shuffles the batches.
    """
    draw, lengths = np.random.default_rng(seed), np.asarray(sizes)
    shuffles = []
    for _ in range(-(-steps // (len(sizes) // batch_size))):
        places = draw.permutation(len(sizes))[: len(sizes) // batch_size * batch_size]
        pools = np.split(places, range(POOL * batch_size, len(places), POOL * batch_size))
        by_size = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        shuffles.append(draw.permutation(by_size.reshape(-1, batch_size)))
    order: list[int] = np.concatenate(shuffles)[:steps].ravel().tolist()
    return order


def start_model(task: Task, checkpoint: Checkpoint, prepare: Prepare | None, seed: int) -> torch.nn.Module:
    """A model with a fresh head that depends on `seed` alone; `prepare` may change the encoder inside, as by a new vocabulary."""
    torch.manual_seed(seed)
    model = task.build(checkpoint)
    if prepare is not None:
        prepare(task.table(model))
    return model


def fine_tune(
    task: Task,
    model: torch.nn.Module,
    features: Sequence[Feature],
    tuning: FineTuning,
    *,
    seed: int,
    sizes: Sequence[int] | None = None,
    device: str = "cpu",
) -> torch.nn.Module:
    """Train `model` in place on `features`, in an order that depends on `seed`, their number and their `sizes` alone.

    `sizes` are lengths of the texts in a unit that no vocabulary changes, such as characters: texts of like size share a batch, which
    leaves less to padding. Without them a batch is any texts.

    Raises `ParameterError` where the loss is not a number, which a learning rate that is too large makes.
    """
    steps, batch_size = tuning.length(len(features)), min(tuning.batch_size, len(features))
    order = batched_order(sizes or [1] * len(features), batch_size, steps, seed)
    if device == "cpu" and task.window <= SHORT:
        task.table(model).set_attn_implementation("eager")
    with quiet(), tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            train_sampling_strategy="sequential",
            learning_rate=tuning.lr,
            lr_scheduler_type="linear",
            warmup_steps=round(tuning.warmup * steps),
            weight_decay=tuning.weight_decay,
            seed=seed,
            data_seed=seed,
            use_cpu=device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        logging.getLogger("accelerate").setLevel(logging.ERROR)
        trainer = Trainer(model=model.train(), args=arguments, train_dataset=[features[i] for i in order], data_collator=task.collate)
        for callback in list(trainer.callback_handler.callbacks):
            if "Printer" in type(callback).__name__:
                trainer.remove_callback(callback)
        gc.freeze()  # the Trainer collects garbage on its way out: seconds, where a process holds much that is none
        try:
            done = trainer.train()
        finally:
            gc.unfreeze()
    if done.training_loss != done.training_loss:
        raise ParameterError(f"fine-tuning: the loss became NaN with lr={tuning.lr:g}: give a smaller one (--train-set lr=5e-5)")
    return model
