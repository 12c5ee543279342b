"""What growers share that learn a gene: the settings of distillation, and how a gene is started, trained and kept.

Enters: the layers of a checkpoint, text or images. Leaves: a `Gene`, an ordinary checkpoint of G layers, such that layers `W @ gene` answer
as the checkpoint does.
"""

import shutil
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from regraft.checkpoint import Checkpoint
from regraft.checkpoint.architecture import text_config
from regraft.checkpoint.rebuild import rebuild
from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.learned.auxiliary import auxiliary, drop_paths
from regraft.grow.depth.learned.batches import image_batches, read_images, text_batches
from regraft.grow.depth.learned.losses import Reduction
from regraft.grow.depth.learned.objectives import AnswerObjective, Batches, LanguageObjective, Objective, Soft
from regraft.grow.depth.learned.training import Schedule, train_gene
from regraft.grow.depth.plan import Plan, pieces
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.language.loading import is_scorable, load_model, quiet
from regraft.language.model import LanguageModel
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.training.packing import Stream, pack

LONG = 5000  # steps below which a start at random is worth a word
HEADS = ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size")


class LearnedGrower(DepthGrower):
    """Base of growers whose gene is learned by distillation from the model itself.

    An auxiliary network of L layers, each a fixed mix of the gene's, learns to answer as the model does: next or masked tokens for language
    models, hidden states for encoders without a head, classes for vision models (`images`). Only the gene and what lies outside the layers
    are parameters, so an optimizer's state is that of G layers; activations are those of L.

    Attributes
    ----------
    from_model : the `init` that starts the gene from the model.
    """

    learns = True
    from_model: ClassVar[str]

    alpha: Annotated[float, Ge(0), Le(1)] = 1.0
    tau: Annotated[float, Gt(0)] = 1.0
    reduction: Reduction = "auto"
    std: Annotated[float, Gt(0)] = 0.02
    outside: Literal["train", "keep"] = "train"
    lr: Annotated[float, Gt(0)] = 5e-4
    min_lr: Annotated[float, Ge(0)] = 1e-5
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.05
    weight_decay: Annotated[float, Ge(0)] = 0.05
    clip: Annotated[float, Ge(0)] = 1.0
    batch_size: Annotated[int, Ge(1)] = 8
    length: Annotated[int, Ge(4)] = 128
    images: str = ""
    force_heads: bool = False

    @abstractmethod
    def aux_plan(self, source: LayerStack) -> Plan:
        """Weights (L, G) of the auxiliary network."""

    @abstractmethod
    def start(self, source: LayerStack) -> Plan:
        """Weights (G, layers of the model) that the gene starts from."""

    @abstractmethod
    def starts_at_random(self) -> Literal["", "layers", "all"]:
        """What of the gene then starts at random: nothing, its layers, or what lies outside them too."""

    def slopes(self, source: LayerStack) -> set[int]:
        """Numbers of the gene's layers that are differences and no layers."""
        return set()

    def settle(self, gene: Any, stack: LayerStack, source: LayerStack) -> None:
        """Change the started live gene before it is trained."""

    def about(self, source: LayerStack) -> dict[str, Any]:
        """What of the settings a kept gene must remember, as plain data."""
        return {}

    def remarks(self, gene: Gene, depth: int) -> list[str]:
        """What a user should know of a model of `depth` layers."""
        steps = gene.facts.get("steps", LONG)
        if not gene.facts.get("random") or steps >= LONG:
            return []
        return [
            f"the gene started at random, as in the paper, which then takes a hundred epochs, and has learned for {steps} steps: with so "
            f"few, start it from the model, --set init={self.from_model}"
        ]

    @property
    def path_rate(self) -> float:
        """Stochastic depth of the auxiliary network's last layer."""
        return 0.0

    def fit(self, source: LayerStack, context: Context) -> Gene:
        return learn(self, source, context)

    def check_heads(self, gene: Gene) -> None:
        """Raise `ParameterError` where attention would be split into other heads than those that the gene has learned with."""
        learned, now = gene.facts.get("heads"), heads_of(gene.stack)
        if learned is not None and learned != now and not self.force_heads:
            told = ", ".join(f"{key} {learned[key]} -> {now.get(key)}" for key in learned if learned[key] != now.get(key))
            raise ParameterError(
                f"{gene.stack.checkpoint.path}: config.json names other heads than the gene has learned with ({told}): shapes fit, but "
                "attention would be another: put them back, or set force_heads=true"
            )

    def tied(self, gene: Gene, depth: int, *, dtype: str = "auto", device: str = "cpu") -> Any:
        """A live model of `depth` layers that share the gene's tensors: its memory is the gene's (as ALBERT's groups share layers)."""
        plan = self.plan(gene, depth)
        return auxiliary(load_model(gene.stack.checkpoint, dtype, device), gene.stack, plan)


def learn(
    method: LearnedGrower,
    source: LayerStack,
    context: Context,
    *,
    teacher: Any = None,
    batches: Batches | None = None,
) -> Gene:
    """The gene that `method` learns from `source` in ``context.steps`` steps.

    Parameters
    ----------
    teacher : a live model to learn from, called as the source is; by default the source itself.
    batches : what is read at each step, by name of the model's arguments; by default text of the corpus, or ``method.images``.
    """
    with quiet():
        gene, stack = started(method, source, context)
        if teacher is None:
            teacher = _loaded(source.checkpoint, context)
        teacher.eval().requires_grad_(False)
        student = auxiliary(gene, stack, method.aux_plan(source))
        if method.path_rate:
            drop_paths(student, stack, method.path_rate)
        objective = _objective(method, source, student, teacher, context, batches)
        _freeze(method, gene, stack)
        parameters = {name: one for name, one in gene.named_parameters() if one.requires_grad}
        schedule = Schedule(
            steps=context.steps,
            lr=method.lr,
            min_lr=min(method.min_lr, method.lr),
            warmup=method.warmup,
            weight_decay=method.weight_decay,
            clip=method.clip,
        )
        state = _state_folder(context)
        curve = train_gene(student, parameters, objective, schedule, context.seed, state)
        facts = {
            "steps": context.steps,
            "random": method.starts_at_random(),
            "curve": curve,
            "loss_unit": objective.unit,
            "heads": heads_of(stack),
            "aux_depth": method.aux_plan(source).depth,
            "gene_parameters": sum(one.numel() for one in gene.parameters()),
            **method.about(source),
        }
        kept = _kept(gene, stack, facts, source.depth)
    if state is not None:
        shutil.rmtree(state, ignore_errors=True)
    return kept


def started(method: LearnedGrower, source: LayerStack, context: Context) -> tuple[Any, LayerStack]:
    """The live gene before training, and what its checkpoint holds."""
    plan = method.start(source)
    folder = Path(tempfile.mkdtemp(prefix="regraft-"))
    try:
        rebuild(
            source.checkpoint, folder / "gene", pieces(source, plan), source.config(plan.sources), files={"gene.json": None}, link=False
        )
        stack = LayerStack.open(Checkpoint.open(folder / "gene"))
        gene = _loaded(stack.checkpoint, context)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(stack, shutil.rmtree, folder, True)
    if method.starts_at_random():
        _at_random(gene, stack, method, method.slopes(source), context.seed)
    method.settle(gene, stack, source)
    return gene, stack


def heads_of(stack: LayerStack) -> dict[str, int]:
    """How the config splits attention into heads."""
    from regraft.checkpoint.architecture import load_config

    config = text_config(load_config(stack.checkpoint.path, stack.checkpoint.config))
    return {key: value for key in HEADS if type(value := getattr(config, key, None)) is int}


def _loaded(checkpoint: Checkpoint, context: Context) -> Any:
    """In float32 unless another type was asked for: steps of training are smaller than what bfloat16 can tell apart."""
    return load_model(checkpoint, "float32" if context.dtype == "auto" else context.dtype, context.device)


def _at_random(gene: Any, stack: LayerStack, method: LearnedGrower, slopes: set[int], seed: int) -> None:
    """Matrices from a truncated normal, vectors as the class starts them (norms at 1, biases at 0); those of slopes at 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(gene)(gene.config)
        inside, everything, std = f"{stack.prefix}.", method.starts_at_random() == "all", method.std
        values = dict(fresh.named_parameters())
        with torch.no_grad():
            for name, one in gene.named_parameters():
                if not name.startswith(inside):
                    if everything and "pooler" not in name:  # hidden states are told nothing of it
                        one.copy_(values[name])
                elif one.ndim > 1:
                    torch.nn.init.trunc_normal_(one, std=std, a=-2 * std, b=2 * std)
                elif int(name.removeprefix(inside).split(".")[0]) in slopes:
                    one.zero_()
                else:
                    one.copy_(values[name])


def _freeze(method: LearnedGrower, gene: Any, stack: LayerStack) -> None:
    if method.outside == "keep":
        for name, one in gene.named_parameters():
            if not name.startswith(f"{stack.prefix}."):
                one.requires_grad_(False)


def _objective(
    method: LearnedGrower, source: LayerStack, student: Any, teacher: Any, context: Context, batches: Batches | None
) -> Objective:
    soft = Soft(alpha=method.alpha, tau=method.tau, reduction=method.reduction)
    folder, size, seed = source.checkpoint.path, method.batch_size, context.seed
    if batches is not None:
        return AnswerObjective(student, teacher, batches, "given", soft)
    if getattr(student, "main_input_name", "") == "pixel_values":
        if not method.images:
            raise ParameterError(f"{method.name} learns from images here: give some with --set images=FILE.npz, or a folder of pictures")
        config = student.config
        shape = int(getattr(config, "num_channels", 3)), int(getattr(config, "image_size", 224))
        given, data = image_batches(*read_images(method.images, folder, shape), size, seed)
        return AnswerObjective(student, teacher, given, data, soft)
    texts = context.texts(method.name)
    tokenizer = load_tokenizer(Tokenizer.from_directory(folder))
    if not is_scorable(source.checkpoint):
        given, data = text_batches(tokenizer, texts, method.length, size, seed)
        return AnswerObjective(student, teacher, given, data, soft)
    models = LanguageModel(student, tokenizer), LanguageModel(teacher, tokenizer)
    packed = pack(models[0], texts, min(method.length, models[0].max_tokens), seed, align_documents=True)
    return LanguageObjective(*models, Stream(packed, seed=seed), size, soft, seed)


def _state_folder(context: Context) -> Path | None:
    """Where a killed run's state is: as told, else beside the gene that is to be kept."""
    if context.state is not None:
        return context.state / "gene"
    return None if context.gene is None else context.gene.with_name(f".{context.gene.name}.state")


def _kept(gene: Any, stack: LayerStack, facts: dict[str, Any], before: int) -> Gene:
    """The trained gene as a checkpoint in a folder that lasts as long as the returned object, in the type of the files."""
    types: Sequence[torch.dtype] = [one.torch_dtype for one in stack.checkpoint.tensors.values() if one.torch_dtype.is_floating_point]
    start = stack.checkpoint.path
    folder = Path(tempfile.mkdtemp(prefix="regraft-"))
    for path in start.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and not path.name.endswith(".index.json"):
            shutil.copy2(path, folder / path.name)
    gene.to(max(types, key=lambda one: one.itemsize)).save_pretrained(folder)
    kept = Gene(LayerStack.open(Checkpoint.open(folder)), facts, before)
    weakref.finalize(kept.stack, shutil.rmtree, folder, True)
    return kept
