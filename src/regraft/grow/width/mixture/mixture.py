"""Two narrow networks that share the shape of one wide one, mixed from templates, and their growth into it.

Enters: a narrow network and the wide one of the same make (any `nn.Module`s with the same names of modules). Leaves: the members to train
one after the other in any loop, the wide network that mixes what they learned, and that network with plain weights.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from regraft.errors import ParameterError
from regraft.grow.width.mixture.coefficients import Rule, added, initial
from regraft.grow.width.mixture.templates import Mixed, Templates, layout, mix

MEMBERS = 2
PLAIN = {"running_var": 1.0}  # of channels that no member has; weights of norms too, all else 0


class Mixture:
    r"""MixtureGrowth (Pham et al., 2024): members before growth, the wide network after.

    Parameters
    ----------
    narrow, wide : the same network at two widths; every size of a weight divides the one of the wide network. Only shapes are read, from
        `narrow` also what is no weight (norms, biases) as each member starts with it.
    templates : n of each of the two sets, or of each set by itself. share : "layer" gives each layer templates of its own, "shape" one bank
        for all layers of a shape, with normal coefficients and a single template of coefficient 1 for the first and last layer.
    upstream_fan : templates start kaiming-normal on the stacked tensor (n, out, in, ...) as released, whose fan-in PyTorch takes to be
        out * in * kernel; False takes a layer's own.

    Raises `ParameterError` where the networks do not fit each other.
    """

    def __init__(
        self,
        narrow: nn.Module,
        wide: nn.Module,
        *,
        templates: int | tuple[int, int] = 2,
        share: Literal["layer", "shape"] = "layer",
        upstream_fan: bool = True,
        seed: int = 0,
    ) -> None:
        self.wide, self.share = wide, share
        self.counts = (templates, templates) if isinstance(templates, int) else templates
        if min(self.counts) < 1:
            raise ParameterError(f"templates={templates}: give 1 or more")
        self.generator = torch.Generator().manual_seed(seed)
        self.layouts = _layouts(narrow, wide)
        self.templates: dict[str, Templates] = {}
        self.coefficients: dict[str, list[nn.Parameter]] = {}
        self.initial: dict[str, list[torch.Tensor]] = {}  # of the coefficients, for a growth after another
        self.members = [copy.deepcopy(narrow) for _ in range(MEMBERS)]
        self._make_templates(narrow, upstream_fan)
        for number, member in enumerate(self.members):
            for name in self.layouts:
                chosen = self.templates[name].sets[number]
                mix(member.get_submodule(name), Mixed([chosen], [self.coefficients[name][number]], [[number]]))

    @classmethod
    def of_trained(
        cls, first: nn.Module, second: nn.Module, wide: nn.Module, *, earlier: Sequence[tuple[Any, Any]] = (), seed: int = 0
    ) -> "Mixture":
        """Members are two trained plain networks, each layer one template of coefficient 1.

        `earlier` : pairs of state dicts from the same two runs, further templates of coefficient 0. With a single template every new block
        is that template times a number; with more the "orthogonal" rule has a direction to choose (ours).
        """
        made = cls(first, wide, templates=1 + len(earlier), seed=seed)
        for number, (trained, member) in enumerate(zip((first, second), made.members, strict=True)):
            with torch.no_grad():
                for name in made.layouts:
                    weights = [trained.get_submodule(name).weight, *(pair[number][f"{name}.weight"] for pair in earlier)]
                    made.templates[name].sets[number].copy_(torch.stack([one.detach() for one in weights]))
                    one = made.coefficients[name][number]
                    one.zero_()
                    one[0] = 1.0
                for name, tensor in _rest(trained):
                    dict(_rest(member))[name].copy_(tensor)
        return made

    def _make_templates(self, narrow: nn.Module, upstream_fan: bool) -> None:
        banks: dict[Any, Templates] = {}
        names = list(self.layouts)
        for name in names:
            shape = tuple(_weight(narrow.get_submodule(name)).shape)
            ends = self.share == "shape" and name in (names[0], names[-1])
            counts = (1, 1) if ends else self.counts
            key = shape if self.share == "shape" and not ends else name
            if key not in banks:
                banks[key] = Templates([self._drawn(count, shape, upstream_fan) for count in counts])
            self.templates[name] = banks[key]
            blocks = max(MEMBERS, len(self.layouts[name]) * len(self.layouts[name][0]))
            if ends:
                drawn: list[torch.Tensor] = [torch.ones(1) for _ in range(blocks)]
            elif counts[0] == counts[1]:
                drawn = list(initial(blocks, counts[0], self.generator, orthogonal=self.share == "layer"))
            else:
                drawn = [torch.randn(counts[number % 2], generator=self.generator) for number in range(blocks)]
            self.initial[name] = drawn
            self.coefficients[name] = [nn.Parameter(one.clone(), requires_grad=not ends) for one in drawn]

    def _drawn(self, count: int, shape: tuple[int, ...], upstream_fan: bool) -> torch.Tensor:
        stacked = torch.empty(count, *shape)
        for part in [stacked] if upstream_fan else stacked:
            nn.init.kaiming_normal_(part, generator=self.generator)
        return stacked

    def copy_member(self, noise: float = 0.01) -> None:
        """Let the second member be the first one with `noise` on its templates (of their deviation): no second training."""
        with torch.no_grad():
            for name, held in self.templates.items():
                old, new = held.sets
                new.copy_(old + noise * old.std() * torch.randn(old.shape, generator=self.generator))
                self.coefficients[name][1].copy_(self.coefficients[name][0])
            for (_, source), (_, target) in zip(_rest(self.members[0]), _rest(self.members[1]), strict=True):
                target.copy_(source)

    def grow(self, rule: Rule = "orthogonal", *, scale: float = 1.0, noise: float = 0.01, untie: bool = False) -> nn.Module:
        """The wide network: what the members learned on the diagonal, blocks between them by `rule` (see `coefficients.added`).

        The result shares its parameters with the members, and with what another call gave: copy it to keep both. Templates stay shared
        between blocks while it trains; `untie` gives plain weights instead. Norms over channels are put together with their
        running statistics, so that with `rule` "zero" the output is the sum of the members' outputs, in evaluation mode.
        Norms over all channels of a sample (LayerNorm, GroupNorm over both halves) see both members at once: then it is not.
        """
        grown = copy.deepcopy(self.wide)
        for name, numbers in self.layouts.items():
            coefficients = self.coefficients[name]
            count = max(number for row in numbers for number in row) + 1
            for number in range(MEMBERS, count):
                known = [one.detach() for one in coefficients[:number]]
                if self.counts[0] != self.counts[1]:
                    known = known[number % 2 :: 2]
                new = added(known, rule, self.initial[name][number], self.generator, scale, noise)
                with torch.no_grad():
                    coefficients[number].copy_(new)
            used = sorted(number for row in numbers for number in row)
            mix(grown.get_submodule(name), Mixed(list(self.templates[name].sets), [coefficients[one] for one in used], numbers))
        self._merge_rest(grown)
        return export(grown) if untie else grown

    @torch.no_grad()
    def _merge_rest(self, grown: nn.Module) -> None:
        """Norms, biases, tables: both members' along the dimension that is wider; a bias of outputs that both have is their sum."""
        parts = [dict(_rest(member)) for member in self.members]
        for name, target in _rest(grown):
            first, second = (one[name] for one in parts)
            module, _, kind = name.rpartition(".")
            if first.shape == target.shape:
                summed = kind == "bias" and module in self.layouts and len(self.layouts[module][0]) > 1
                target.copy_(first + second if summed else first)
                continue
            dim = next(d for d, (a, b) in enumerate(zip(first.shape, target.shape, strict=True)) if a != b)
            norm = kind == "weight" and isinstance(grown.get_submodule(module), _BatchNorm | nn.GroupNorm | nn.LayerNorm)
            middle = torch.full_like(first, 1.0 if norm else PLAIN.get(kind, 0.0))
            between = [middle] * (target.shape[dim] // first.shape[dim] - MEMBERS)
            target.copy_(torch.cat([first, *between, second], dim))


def grow(
    first: nn.Module,
    second: nn.Module,
    wide: nn.Module,
    *,
    rule: Rule = "zero",
    earlier: Sequence[tuple[Any, Any]] = (),
    seed: int = 0,
) -> nn.Module:
    """Two trained networks as one wide one with plain weights, in one call; see `Mixture.of_trained`."""
    return Mixture.of_trained(first, second, wide, earlier=earlier, seed=seed).grow(rule, untie=True)


def export(network: nn.Module) -> nn.Module:
    """A copy of `network` with plain weights, which computes what it did."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if parametrize.is_parametrized(module, "weight"):
            weight = _weight(module).detach().clone()
            del module.parametrizations  # by hand: `remove_parametrizations` edits the class, which a deep copy shares with its original
            module.__class__ = parametrize.type_before_parametrizations(module)
            module.weight = nn.Parameter(weight)
    return plain


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer: coefficients without weight decay, all else with it."""
    mixing = {id(one) for module in network.modules() if isinstance(module, Mixed) for one in module.coefficients}
    trained = [one for one in network.parameters() if one.requires_grad]
    return [
        {"params": [one for one in trained if id(one) not in mixing], "weight_decay": weight_decay},
        {"params": [one for one in trained if id(one) in mixing], "weight_decay": 0.0},
    ]


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Running statistics of batch norms from `batches`, as the network is now (ours): new blocks make the old ones stale."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before, training = [norm.momentum for norm in norms], network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    network.train()
    for batch in batches:
        network(batch)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.train(training)


def _layouts(narrow: nn.Module, wide: nn.Module) -> dict[str, list[list[int]]]:
    """For each convolution and linear layer its grid of blocks."""
    found, others = {}, dict(wide.named_modules())
    for name, module in narrow.named_modules():
        if not isinstance(module, _ConvNd | nn.Linear):
            continue
        if name not in others:
            raise ParameterError(f"the wide network has no layer {name}")
        small, large = module.weight.shape, others[name].weight.shape
        if any(b % a for a, b in zip(small, large, strict=True)) or small[2:] != large[2:]:
            raise ParameterError(f"{name}: blocks of {tuple(small)} do not fill {tuple(large)}: let widths divide each other")
        rows, columns = large[0] // small[0], large[1] // small[1]
        if rows * columns < MEMBERS:
            raise ParameterError(f"{name}: as wide in both networks {tuple(small)}: both members have a place where one side is wider")
        found[name] = layout(rows, columns)
    for name, tensor in narrow.state_dict().items():
        if name.rpartition(".")[0] not in found and any(b % a for a, b in zip(tensor.shape, wide.state_dict()[name].shape, strict=True)):
            raise ParameterError(f"{name}: {tuple(tensor.shape)} does not fill {tuple(wide.state_dict()[name].shape)}")
    return found


def _weight(layer: nn.Module) -> torch.Tensor:
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    return weight


def _rest(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What is no mixed weight: norms, biases, tables, running statistics."""
    for name, module in network.named_modules():
        if ".parametrizations" in f".{name}":
            continue
        mixed = isinstance(module, _ConvNd | nn.Linear)
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        yield from ((f"{name}.{key}" if name else key, tensor) for key, tensor in own if not (mixed and key == "weight"))
