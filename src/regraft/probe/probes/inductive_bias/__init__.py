"""The exact inductive-bias measure: how many nats of prior knowledge a task asks for, in a hypothesis space, to reach a test error."""

from regraft.probe.probes.inductive_bias.method import InductiveBias
from regraft.probe.probes.inductive_bias.result import Bias

__all__ = ["Bias", "InductiveBias"]
