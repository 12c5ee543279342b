"""The one training loop: continue a model's training on text, for some steps or some minutes, on chosen parameters.

Enters: a model in memory with its tokenizer, training text, a `Training`. Leaves: the model trained in place and in its ordinary shape, and
a `TrainingRun` with what was read, what trained, and the curve.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn

from regraft.errors import ParameterError
from regraft.graft.factors import FactorisedHead, dense
from regraft.language.model import LanguageModel
from regraft.language.tables import head_of
from regraft.progress import Bar, progress_bar
from regraft.training.adapters import LoraOptions, untie
from regraft.training.footprint import footprint, full_training
from regraft.training.objectives import Loss, SecondHead, backpropagate, backpropagate_masked
from regraft.training.packing import Packed, Stream, pack
from regraft.training.run import CurvePoint, TrainingRun, joined
from regraft.training.settings import Training
from regraft.training.state import load_state, save_state
from regraft.training.trainable import select

BETAS = (0.9, 0.999)
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.monotonic, "process": time.process_time}
CLIP = 1.0  # largest gradient norm


def train(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str],
    training: Training,
    *,
    new_ids: Sequence[int] | npt.NDArray[np.int64] = (),
    replay_texts: Iterable[str] | None = None,
    directory: str | Path | None = None,
    on_evaluate: Callable[[Any, int], float] | None = None,
) -> TrainingRun:
    """Train `model` in place on `texts`.

    Parameters
    ----------
    new_ids : ids of the new tokens, for what trains only their rows.
    replay_texts : source-language text, mixed in at the share ``training.replay``.
    directory : where to keep the state of the run. If it holds a state of this very run, training goes on from there and ends with the same
        weights as a run that was never stopped (with a budget in steps; the clock is not so exact).
    on_evaluate : called with the model and the step; its value (bits per byte) joins the curve. Its time is not training time.

    Under `accelerate launch` each process reads its own blocks and gradients are averaged; the model is whole on each.

    Raises
    ------
    CorpusError : text smaller than one block.
    ParameterError : a combination that cannot train (objective and model, replay without text, no new ids, tied tables under LoRA).
    EvaluationError : the model has no language-model head. OutputError : the state cannot be written or is of another run.
    """
    language_model = LanguageModel(model, tokenizer)
    check_fits(language_model, training, replay_texts)
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        model.to(accelerator.device)
    into_blocks = partial(pack, language_model, block=training.block, seed=training.seed, align_documents=training.align_documents)
    packed = into_blocks(texts)
    replay = into_blocks(replay_texts, name="replay text") if replay_texts is not None and training.replay else None
    if training.untie:
        untie(model)
    second = _second_head(language_model) if training.objective == "mtp" else None
    stages = training.stages(len(packed) / (1 - training.replay), accelerator.num_processes)
    runs: list[TrainingRun] = []
    for stage in stages:
        done = joined(runs) if runs else TrainingRun()
        blocks = done.steps * training.accumulate * training.batch_size * accelerator.num_processes
        stream = Stream(packed, replay, training.replay, training.seed, blocks)
        folder = None if directory is None else Path(directory) / (str(stage.parameters) if len(stages) > 1 else "")
        watch = None if on_evaluate is None else _counting_on(on_evaluate, done.steps)
        runs.append(_train_stage(language_model, stage, stream, second, new_ids, accelerator, folder, watch))
    return joined(runs)


def _counting_on(on_evaluate: Callable[[Any, int], float], steps: int) -> Callable[[Any, int], float]:
    """`on_evaluate` called with the steps of earlier stages too."""
    return lambda model, step: on_evaluate(model, steps + step)


def _train_stage(
    language_model: LanguageModel,
    training: Training,
    stream: Stream,
    second: SecondHead | None,
    new_ids: Sequence[int] | npt.NDArray[np.int64],
    accelerator: Accelerator,
    directory: Path | None,
    on_evaluate: Callable[[Any, int], float] | None,
) -> TrainingRun:
    """Train one choice of parameters for its whole budget."""
    model = language_model.model
    options = LoraOptions(training.lora_r, training.lora_alpha, training.lora_dropout, training.lora_tables)
    full = full_training(model)
    assert training.parameters != "2-stage"
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        trainable = select(
            model, training.parameters, new_ids, freeze_old_rows=training.freeze_old_rows, lora=options, quantize=training.quantize
        )
        was_training = model.training
        try:
            parameters = dict(trainable.parameters)
            if second is not None:
                parameters.update({f"second_head.{name}": parameter for name, parameter in second.named_parameters()})
            held = footprint(model, trainable.parameters, full, trainable.quantization)
            run = TrainingRun(trainable_parameters=trainable.count, total_parameters=held.total, groups=trainable.groups, footprint=held)
            loop = _Loop(language_model, training, stream, parameters, second, run, accelerator, directory)
            loop.run_all(on_evaluate)
            run.adapters = None if trainable.adapters is None else trainable.adapters.saved()
        finally:
            trainable.finish()
            model.train(was_training)
    if training.quantize != "none" and on_evaluate is not None:
        run.merged = _measured(model, on_evaluate, run.steps)
    return run


def check_fits(language_model: LanguageModel, training: Training, replay_texts: Iterable[str] | None) -> None:
    """Raise `ParameterError` if `training` does not fit the model: its objective, its blocks, its replay."""
    name = type(language_model.model).__name__
    if (training.objective == "mlm") != (language_model.kind == "masked"):
        fitting = "'mlm'" if language_model.kind == "masked" else "'clm' or 'mtp'"
        raise ParameterError(f"objective={training.objective!r} does not fit {name}: choose {fitting}")
    if training.objective == "mtp" and (language_model.backbone is None or head_of(language_model.model) is None):
        raise ParameterError(f"objective='mtp' needs a head of its own, which {name} has not: choose 'clm'")
    if training.objective == "mlm" and language_model.tokenizer.mask_token_id is None:
        raise ParameterError("objective='mlm' needs a tokenizer with a mask token")
    if training.replay and replay_texts is None:
        raise ParameterError(f"replay={training.replay}: give replay_texts, the source-language text to mix in, or replay=0")
    if training.block > language_model.max_tokens:
        raise ParameterError(f"block={training.block}: {name} takes at most {language_model.max_tokens} tokens")


def _measured(model: Any, on_evaluate: Callable[[Any, int], float], step: int) -> float:
    """`on_evaluate` on the model in evaluation mode; randomness it uses is not missing in training."""
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng():
            return float(on_evaluate(model, step))
    finally:
        model.train(was_training)


def _second_head(language_model: LanguageModel) -> SecondHead:
    head: Any = language_model.head
    weight = dense(head.weight, head.right) if isinstance(head, FactorisedHead) else head.weight
    return SecondHead(weight, getattr(head, "bias", None))


def _optimizer(parameters: dict[str, nn.Parameter], training: Training) -> torch.optim.AdamW:
    matrices = [p for p in parameters.values() if p.ndim > 1]
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=training.lr, betas=BETAS, fused=True)


def _identity(training: Training, stream: Stream, parameters: dict[str, nn.Parameter]) -> dict[str, Any]:
    """What must agree for a saved state to be continued: settings, data, and where the parameters started."""
    settings = asdict(training)
    for free in ("checkpoint_every", "evaluate_every"):
        settings.pop(free)
    sources: list[Packed] = [s for s in (stream.packed, stream.replay) if s is not None]
    data = [hashlib.sha256(s.ids.tobytes()).hexdigest()[:16] for s in sources]
    start = {n: [list(p.shape), float(p.detach().double().sum()), float(p.detach().double().abs().sum())] for n, p in parameters.items()}
    identity: dict[str, Any] = json.loads(json.dumps({"settings": settings, "data": data, "model": start}))
    return identity


def _stopwatch(clock: Callable[[], float]) -> Callable[[], float]:
    """Seconds since this call."""
    start = clock()
    return lambda: clock() - start


@dataclass
class _Loop:
    """The loop's moving parts. One step: `accumulate` passes, average over processes, clip, update."""

    language_model: LanguageModel
    training: Training
    stream: Stream
    parameters: dict[str, nn.Parameter]
    second: SecondHead | None
    run: TrainingRun
    accelerator: Accelerator
    directory: Path | None

    def run_all(self, on_evaluate: Callable[[Any, int], float] | None) -> None:
        training, run = self.training, self.run
        optimizer = _optimizer(self.parameters, training)
        identity = _identity(training, self.stream, self.parameters)
        saved = load_state(self.directory, self.parameters, optimizer, identity) if self.directory else None
        if saved is not None:
            self._continue_from(saved)
        clock, last_saved = CLOCKS[training.clock], time.monotonic()
        self.language_model.model.train()
        if on_evaluate is not None and not run.curve:
            self._evaluate(on_evaluate)
        minutes = training.minutes is not None
        with progress_bar("training", total=training.minutes if minutes else training.steps, unit="min" if minutes else "steps") as bar:
            while self._progress() < 1 and not run.stopped:
                spent = _stopwatch(clock)
                loss, size = self._step(optimizer, spent)
                run.seconds = self._agreed(run.seconds + spent())
                run.stopped = training.most_minutes is not None and run.seconds >= 60 * training.most_minutes and self._progress() < 1
                self._note(bar, loss, size)
                if on_evaluate is not None and self._due() and self._progress() < 1:
                    self._evaluate(on_evaluate)
                if self.directory and time.monotonic() - last_saved >= training.checkpoint_every:
                    self._save(optimizer, identity)
                    last_saved = time.monotonic()
        if on_evaluate is not None and run.curve[-1].step != run.steps:
            self._evaluate(on_evaluate)
        if self.directory:
            self._save(optimizer, identity)

    def _progress(self) -> float:
        """Share of the budget that is spent."""
        if self.training.minutes is not None:
            return self.run.seconds / (60 * self.training.minutes)
        return self.run.steps / (self.training.steps or 1)

    def _middle(self, spent: float) -> float:
        """Share of the budget at the middle of the step under way, which has taken `spent` seconds, or of what is left if that is less.

        A rate from before the step would be zero at the first, which may be the only one.
        """
        progress, training = self._progress(), self.training
        step = self._agreed(spent) / (60 * training.minutes) if training.minutes is not None else 1 / (training.steps or 1)
        return progress + min(step, 1 - progress) / 2

    def _step(self, optimizer: torch.optim.Optimizer, spent: Callable[[], float]) -> tuple[Loss, float]:
        training, processes = self.training, self.accelerator.num_processes
        nats, predicted, size = 0.0, 0, 0.0
        for turn in range(training.accumulate):
            batch = (self.run.steps * training.accumulate + turn) * processes + self.accelerator.process_index
            ids, held = self.stream.blocks(batch * training.batch_size, training.batch_size)
            loss = self._backpropagate(torch.from_numpy(ids).to(self.language_model.device), batch)
            nats, predicted, size = nats + loss.nats, predicted + loss.tokens, size + held
        if not math.isfinite(nats):
            raise ParameterError(f"the loss is not finite at step {self.run.steps}: lower lr={training.lr} or check the model's start")
        if self.run.steps == 0:
            self._check_gradients()
        gradients = [p for p in self.parameters.values() if p.grad is not None]
        if processes > 1:
            for parameter in gradients:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        torch.nn.utils.clip_grad_norm_(gradients, CLIP)
        rate = training.learning_rate(self._middle(spent()))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.run.steps += 1
        self.run.tokens += training.accumulate * training.batch_size * training.block * processes
        self.run.bytes += size * processes
        return Loss(nats, predicted), size

    def _check_gradients(self) -> None:
        """Raise `ParameterError` if a table that should learn, or all that should, has no gradient: then nothing of it would be learned."""
        idle = [name for name, parameter in self.parameters.items() if parameter.grad is None]
        tables = [name for name in idle if name.startswith(("rows", "head_rows", "embedding."))]
        if tables or len(idle) == len(self.parameters):
            raise ParameterError(
                f"{type(self.language_model.model).__name__}: {(tables or idle)[0]} should learn, but gets no gradient from the text: "
                "choose other parameters"
            )

    def _backpropagate(self, ids: torch.Tensor, batch: int) -> Loss:
        scale, device = 1 / self.training.accumulate, self.language_model.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.training.precision == "bf16"):
            if self.training.objective == "mlm":
                return backpropagate_masked(self.language_model, ids, np.random.default_rng([self.training.seed, 3, batch]), scale=scale)
            return backpropagate(self.language_model, ids, second=self.second, scale=scale)

    def _agreed(self, seconds: float) -> float:
        """The same clock on every process, so that all stop at the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        clock = torch.tensor(seconds, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(clock, "mean"))

    def _note(self, bar: Bar, loss: Loss, size: float) -> None:
        training, run = self.training, self.run
        read = training.accumulate * training.batch_size * training.block
        bits = loss.nats / math.log(2) / max(loss.tokens, 1) * read / max(size, 1.0)
        progress = self._progress()
        if progress * 100 >= len(run.losses) or progress >= 1:
            run.losses.append(CurvePoint(run.steps, run.seconds, run.tokens, bits))
        bar.update(run.seconds / 60 if training.minutes is not None else run.steps)
        bar.say(f"{run.tokens_per_second:.0f} tokens/s, {bits:.3f} bits per byte")

    def _due(self) -> bool:
        every = self.training.evaluate_every
        if every is None:
            return False
        last = self.run.curve[-1]
        spent = (self.run.seconds - last.seconds) / 60 if self.training.minutes is not None else self.run.steps - last.step
        return spent >= every

    def _evaluate(self, on_evaluate: Callable[[Any, int], float]) -> None:
        value = _measured(self.language_model.model, on_evaluate, self.run.steps)
        self.run.curve.append(CurvePoint(self.run.steps, self.run.seconds, self.run.tokens, value))

    def _save(self, optimizer: torch.optim.Optimizer, identity: dict[str, Any]) -> None:
        if self.directory is None or not self.accelerator.is_main_process:
            return
        run = self.run
        counters = {"steps": run.steps, "tokens": run.tokens, "bytes": run.bytes, "seconds": run.seconds, "identity": identity}
        curves = {name: [asdict(point) for point in points] for name, points in (("curve", run.curve), ("losses", run.losses))}
        save_state(self.directory, self.parameters, optimizer, {**counters, **curves})

    def _continue_from(self, saved: dict[str, Any]) -> None:
        run = self.run
        run.steps, run.tokens, run.bytes, run.seconds = saved["steps"], saved["tokens"], saved["bytes"], saved["seconds"]
        run.curve = [CurvePoint(**point) for point in saved["curve"]]
        run.losses = [CurvePoint(**point) for point in saved["losses"]]
