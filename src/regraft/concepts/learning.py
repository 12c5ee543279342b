"""Steps of learning that methods share: a loss goes down, a stopped run goes on, a number that is none ends it with the last good state.

Every draw follows the seed and the step alone, so a run that goes on is the run that was never stopped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from regraft.concepts.host.diffusion import Batch, Diffusion
from regraft.concepts.host.pipeline import encode
from regraft.concepts.host.words import Rows, spliced
from regraft.concepts.kinds.word import WordConcept
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.errors import ParameterError
from regraft.progress import progress_bar
from regraft.training.state import load_state, save_state

KEPT_EVERY, SHOWN_EVERY = 50, 10


@dataclass(frozen=True)
class Step:
    """One step: its `number`, a `batch` of images at times of noise, and the `generator` of what else is drawn."""

    number: int
    batch: Batch
    generator: torch.Generator


@dataclass
class Run:
    """How a descent went. `curve` : (step, mean loss since the last point). `stopped` : why it ended early, None if it did not."""

    curve: list[tuple[float, float]] = field(default_factory=list)
    stopped: str | None = None


def descend(
    diffusion: Diffusion,
    parameters: Mapping[str, nn.Parameter],
    loss_of: Callable[[Step], torch.Tensor],
    method: ConceptMethod,
    plan: Plan,
    *,
    weight_decay: float = 1e-2,
    clip: float | None = None,
    after: Callable[[int], None] | None = None,
    told: str | None = None,
) -> Run:
    """AdamW on the mean of `loss_of` over a step's batches; `after(step)` follows each step of the optimizer.

    `clip` : length to which the gradient of all parameters together is cut.

    Raises `ParameterError` where no gradient reaches any parameter at the first step: then nothing would ever be learned.
    """

    def drawn(number: int, generator: torch.Generator) -> torch.Tensor:
        return loss_of(Step(number, diffusion.batch(method.batch, generator), generator))

    optimizer = torch.optim.AdamW(parameters.values(), lr=method.lr, weight_decay=weight_decay)
    steps = plan.steps if plan.steps is not None else method.steps
    return optimize(parameters, drawn, optimizer, replace(plan, steps=steps), told or method.name, clip=clip, after=after)


def optimize(
    parameters: Mapping[str, nn.Parameter],
    drawn: Callable[[int, torch.Generator], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    told: str,
    *,
    clip: float | None = None,
    after: Callable[[int], str | None] | None = None,
) -> Run:
    """`plan.steps` of an optimizer on a loss `drawn(step, generator)`; what `after(step)` says, if anything, ends the run.

    `clip` : length to which the gradient of all parameters together is cut.

    Raises `ParameterError` where no gradient reaches any parameter at the first step.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=next(iter(parameters.values())).device.type == "cpu")
    steps = plan.steps or 0
    gathered: list[float] = []
    kept = None if plan.state is None else load_state(plan.state, parameters, optimizer, {"shapes": _shapes(parameters)})
    begin, run = (0, Run()) if kept is None else (int(kept["step"]), Run([(float(at), float(value)) for at, value in kept["curve"]]))
    with progress_bar(told, steps) as bar:
        bar.update(begin)
        for number in range(begin, steps):
            before = [value.detach().clone() for value in parameters.values()]
            total = 0.0
            optimizer.zero_grad()
            for part in range(plan.accumulate):
                generator = _generator(plan.seed, number * plan.accumulate + part, accelerator.process_index)
                loss = drawn(number, generator) / plan.accumulate
                accelerator.backward(loss)
                total += float(loss.detach())
            grads = [value.grad for value in parameters.values() if value.grad is not None]
            if number == begin and not any(bool(grad.any()) for grad in grads) and torch.isfinite(torch.tensor(total)):
                raise ParameterError(f"{told}: no gradient reaches what is to be learned: do the captions hold the word?")
            for grad in grads if accelerator.num_processes > 1 else ():
                grad.copy_(accelerator.reduce(grad, "mean"))
            if _finite([torch.tensor(total), *grads]):
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
                optimizer.step()
                if after is not None:
                    run.stopped = after(number)
            if not _finite([torch.tensor(total), *grads, *parameters.values()]):
                for value, good in zip(parameters.values(), before, strict=True):
                    value.data.copy_(good)
                run.stopped = f"step {number + 1}: the loss is no longer a number; {number} steps are kept. Lower lr, or use float32"
                break
            gathered.append(total)
            if (number + 1) % SHOWN_EVERY == 0 or number + 1 == steps or run.stopped:
                run.curve.append((number + 1, sum(gathered) / len(gathered)))
                gathered = []
            if plan.state is not None and (number + 1) % KEPT_EVERY == 0 and number + 1 < steps:
                save_state(
                    plan.state, parameters, optimizer, {"step": number + 1, "curve": run.curve, "identity": {"shapes": _shapes(parameters)}}
                )
            bar.advance(1)
            if run.stopped:
                break
    return run


def _generator(seed: int, number: int, process: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 1_000_003 + number) * 64 + process)


def _shapes(parameters: Mapping[str, nn.Parameter]) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in parameters.items()}


def _finite(values: list[Any]) -> bool:
    return all(bool(value.detach().isfinite().all()) for value in values)


def prompts_for(lesson: Lesson, step: Step, sentences: list[str]) -> list[str]:
    """A caption for each image of the batch: its own, where its file tells one with the word or ``{}``, else one that is drawn."""
    drawn = torch.randint(len(sentences), (len(step.batch.rows),), generator=step.generator)
    own = [lesson.pictures.captions.get(lesson.pictures.names[int(row)], "") for row in step.batch.rows]
    told = [text if "{}" in text or lesson.word in text else sentences[int(place)] for text, place in zip(own, drawn, strict=True)]
    return [text.replace("{}", lesson.word) for text in told]


def learn_rows(
    lesson: Lesson,
    plan: Plan,
    method: ConceptMethod,
    start: Rows,
    *,
    flip: float = 0.0,
    weight_decay: float = 1e-2,
    sentences: list[str] | None = None,
    extra: Callable[[Step, Mapping[str, nn.Parameter]], torch.Tensor] | None = None,
    after: Callable[[int, Mapping[str, nn.Parameter]], None] | None = None,
) -> Learned:
    """Rows of the word by the diffusion loss, and by `extra` beside it, from `start` (n, width) for each tower."""
    pipeline = lesson.pipeline
    rows = {key: nn.Parameter(value.detach().float().clone()) for key, value in start.items()}
    diffusion = Diffusion(pipeline, lesson.pictures.images, flip=flip)
    captions = sentences or lesson.captions()

    def loss_of(step: Step) -> torch.Tensor:
        context = encode(pipeline, prompts_for(lesson, step, captions))
        loss = diffusion.losses(step.batch, context).mean()
        return loss if extra is None else loss + extra(step, rows)

    with spliced(pipeline, {lesson.word: rows}):
        run = descend(
            diffusion,
            rows,
            loss_of,
            method,
            plan,
            weight_decay=weight_decay,
            after=None if after is None else lambda step: after(step, rows),
        )
    learned = {key: value.detach().clone() for key, value in rows.items()}
    concept = WordConcept(lesson.word, learned, lesson.init)
    return Learned(concept, sum(value.numel() for value in learned.values()), run.curve, moved(start, learned), run.stopped)


def moved(start: Rows, end: Rows) -> dict[str, float]:
    """Length of the rows before and after, its ratio, and the cosine between them, means over pieces that both have, of the first tower."""
    key = next(iter(start))
    both = min(len(start[key]), len(end[key]))
    a, b = start[key][:both].float(), end[key][:both].float()
    cosine = torch.cosine_similarity(a, b, dim=1).mean()
    lengths = [float(one.norm(dim=1).mean()) for one in (a, b)]
    return {
        "norm_start": lengths[0],
        "norm": lengths[1],
        "norm_ratio": lengths[1] / max(lengths[0], 1e-12),
        "cosine_to_start": float(cosine),
    }
