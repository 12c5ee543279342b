"""MixtureGrowth for any `nn.Module`: weights mixed from templates, two narrow networks that become one wide one."""

from regraft.grow.width.mixture.coefficients import Rule
from regraft.grow.width.mixture.cost import Cost, forward_flops
from regraft.grow.width.mixture.mixture import Mixture, export, grow, parameter_groups, reestimate
from regraft.grow.width.mixture.schedule import Cosine

__all__ = ["Cosine", "Cost", "Mixture", "Rule", "export", "forward_flops", "grow", "parameter_groups", "reestimate"]
