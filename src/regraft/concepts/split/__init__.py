"""Classes apart: a diffusion transformer made of what its classes share and of what is each one's own."""

from regraft.concepts.split.assembly import dense, extract, merged, without
from regraft.concepts.split.layers.gated import Gate, GatedLinear, SoftGate, factorise
from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.model import Split, load

__all__ = ["Gate", "GatedLinear", "Partition", "SoftGate", "Split", "dense", "extract", "factorise", "load", "merged", "without"]
