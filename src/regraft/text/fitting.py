"""Steps of training by `SentenceTransformerTrainer`, with our progress line, a curve, and a place to go on from after a kill.

Enters: a model, a loss of that library's kind, a `datasets.Dataset`, a budget in steps. Leaves: the trained model (in place) and the curve.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from regraft.errors import EvaluationError
from regraft.progress import Bar, progress_bar

Curve = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long is trained, and how.

    Attributes
    ----------
    steps : optimizer steps. batch_size : examples a step. lr : the highest learning rate; after `warmup` (a share of the steps) it falls to
    0 linearly. seed : of the order of examples and of dropout. state : folder that an interrupted training goes on from; None keeps none.
    save_every : steps between states. device : "cpu" or a GPU.
    curve : (step, loss) is appended here.
    """

    steps: int = 200
    batch_size: int = 32
    lr: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    state: Path | None = None
    save_every: int = 100
    device: str = "cpu"
    curve: Curve = field(default_factory=list)


def fit(
    model: SentenceTransformer,
    loss: torch.nn.Module,
    examples: Any,
    budget: Budget,
    *,
    name: str = "training",
    arguments: dict[str, Any] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    preprocess: Callable[..., dict[str, torch.Tensor]] | None = None,
) -> Curve:
    """Train `model` in place for `budget.steps`; parameters that do not require a gradient stay as they are.

    `arguments` goes to `SentenceTransformerTrainingArguments`; `preprocess` makes tensors of a column's texts, in the model's place.
    Raises `EvaluationError` where the loss is NaN or infinite.
    """
    with tempfile.TemporaryDirectory() if budget.state is None else nullcontext(str(budget.state / name)) as folder:
        settings = SentenceTransformerTrainingArguments(
            output_dir=folder,
            max_steps=budget.steps,
            per_device_train_batch_size=budget.batch_size,
            learning_rate=budget.lr,
            warmup_steps=round(budget.warmup * budget.steps),
            weight_decay=budget.weight_decay,
            max_grad_norm=budget.max_grad_norm,
            seed=budget.seed,
            data_seed=budget.seed,
            use_cpu=budget.device == "cpu",
            dataloader_pin_memory=False,
            save_strategy="no" if budget.state is None else "steps",
            save_steps=budget.save_every,
            save_total_limit=1,
            logging_steps=max(1, budget.steps // 50),
            disable_tqdm=True,
            report_to=[],
            **(arguments or {}),
        )
        model.model_card_data.generate_widget_examples = False  # it would encode examples for a card that nobody asked for
        with progress_bar(name, total=budget.steps, unit="steps") as bar:
            watch = _Watch(bar, name)
            trainer = SentenceTransformerTrainer(
                model=model,
                args=settings,
                train_dataset=examples,
                loss=loss,
                callbacks=[watch, *callbacks],
                data_collator=None if preprocess is None else SentenceTransformerDataCollator(preprocess_fn=preprocess),
            )
            trainer.remove_callback(PrinterCallback)
            kept = get_last_checkpoint(folder) if budget.state is not None and Path(folder).is_dir() else None  # type: ignore[no-untyped-call]
            trainer.train(resume_from_checkpoint=kept)
    curve = [(float(line["step"]), float(line["loss"])) for line in trainer.state.log_history if "loss" in line]
    budget.curve.extend(curve)
    model.eval()
    return curve


class _Watch(TrainerCallback):
    """The trainer's steps as our progress, and an end where the loss is no number."""

    def __init__(self, bar: Bar, name: str) -> None:
        self.bar, self.name = bar, name

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.bar.say(f"loss {float(logs['loss']):.4f}")
            if not torch.isfinite(torch.tensor(float(logs["loss"]))):
                raise EvaluationError(f"{self.name}: the loss is {logs['loss']} at step {state.global_step}: lower the learning rate")
