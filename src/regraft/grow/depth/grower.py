"""The contract of depth: a method makes a gene of a checkpoint, and a gene gives a model of any number of layers.

Where nothing is learned the gene is the checkpoint itself. A learned gene is a small checkpoint of its own.
"""

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.checkpoint.rebuild import rebuild
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.plan import Plan, pieces
from regraft.grow.depth.stack import LayerStack, check_depth, size_at
from regraft.grow.grower import Context, Grower, Grown, check_room
from regraft.language.loading import load_model


class DepthGrower(Grower):
    """Base of every way to another number of layers. Size is the number of layers."""

    family = "depth-grower"

    def fit(self, source: LayerStack, context: Context) -> Gene:
        """The gene of `source`: what new layers are made of. As it stands: its own layers."""
        return Gene(source)

    @abstractmethod
    def plan(self, gene: Gene, depth: int) -> Plan:
        """Weights (depth, layers of the gene) for a model of `depth` layers. Raises `ParameterError` for a depth that it cannot give."""

    def remarks(self, gene: Gene, depth: int) -> list[str]:
        """What a user should know of a model of `depth` layers."""
        return []

    def check(self, source: Checkpoint, size: int, out: Path, context: Context) -> None:
        check_depth(size)
        check_room(f"--layers {size}", *size_at(source, size), out, context)

    def said(self, size: int) -> str:
        return f"{size} layer{'s' * (size != 1)}"

    def grow(self, source: Checkpoint, size: int, out: Path, context: Context) -> Grown:
        self.check(source, size, out, context)
        stack = LayerStack.open(source)
        gene = Gene.load(context.gene, self, source) if context.gene is not None and context.gene.exists() else self.fit(stack, context)
        if context.gene is not None and not context.gene.exists():
            gene.save(context.gene, self, source)
        plan = self.plan(gene, size)
        context.notes.extend([*plan.remarks(gene.depth_before), *self.remarks(gene, size)])
        return write(gene, plan, out, self, source)

    def expand(self, gene: Gene, depth: int, *, dtype: str = "auto", device: str = "cpu") -> Any:
        """A live model of `depth` layers, in evaluation mode."""
        import tempfile

        check_depth(depth)
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            written = write(gene, self.plan(gene, depth), Path(folder) / "model", self, gene.stack.checkpoint)
            return load_model(Checkpoint.open(written.out), dtype, device)


def write(gene: Gene, plan: Plan, out: Path, method: DepthGrower, source: Checkpoint) -> Grown:
    """The checkpoint that `plan` makes of `gene`, shard by shard; `source` is what the gene came from, for the record."""
    stack = gene.stack
    made = pieces(stack, plan)
    new = sorted(name for layer in plan.new for name in _in_memory(stack, layer))
    facts = {"layers": plan.depth, "layers_before": gene.depth_before, "plan": plan.described(), "new_layers": list(plan.new)}
    if plan.loudness is not None:
        facts["loudness"] = list(plan.loudness)
    record = provenance.record(
        source, "grow depth", method=method.name, parameters={**vars(method), "layers": plan.depth}, metrics={**facts, **gene.facts}
    )
    rebuild(stack.checkpoint, out, made, stack.config(plan.sources), files={"gene.json": None}, record=partial(provenance.save, record))
    return Grown(out, tuple(new), facts)


def _in_memory(stack: LayerStack, layer: int) -> list[str]:
    return [f"{stack.prefix}.{layer}.{name}" for name in stack.called.values()]
