"""One feed-forward block that routes: its hooks, its gate, its choice.

Enters: a block whose neurons lie in the order of their experts, and how tokens choose. Leaves: the block, masked or with grouped products.
The average gate is computed from the keys in each forward pass, so that no step of any trainer can leave it behind.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from regraft.errors import ParameterError
from regraft.grow.experts.ffn import FeedForward, rows
from regraft.grow.experts.grouped import Stack, experts_forward
from regraft.grow.experts.routing import CosineRouter, chosen, load_and_importance, spread, within_capacity
from regraft.grow.experts.split import Routing

Mode = Literal["masked", "grouped", "dense"]
ROUTER = "expert_router"


class RoutedBlock:
    """One split block: what it hangs into the model, and what it saw last.

    Attributes
    ----------
    counts : (experts,) tokens that chose each, when `counting`. loss : load and importance of the last pass in training, or None.
    """

    def __init__(self, ffn: FeedForward, routing: Routing) -> None:
        self.ffn, self.routing = ffn, routing
        self.whole = ffn.whole  # asked before a router lies in it
        self.real: Tensor | None = None  # the mask of the batch: 1 for tokens that are no padding
        self.loss: Tensor | None = None
        self.counting, self.counts = False, torch.zeros(routing.experts, dtype=torch.long)
        self._hooks: list[Any] = []
        self._replaced: list[nn.Module] = []
        self._x: Tensor | None = None
        self._keys: Tensor | None = None
        self._up: Tensor | None = None
        self._gate: tuple[Any, Tensor] | None = None
        self._make_router()

    def _make_router(self) -> None:
        if self.routing.gate == "learned" and self.router is None:
            self._home.add_module(ROUTER, CosineRouter(self.ffn.dim, self.routing.experts).to(rows(self.ffn.key).device))

    @property
    def _home(self) -> nn.Module:
        """Where a router's parameters lie: beside the keys."""
        above = self.ffn.pattern.key.rpartition(".")[0]
        return self.ffn.block.get_submodule(above)

    @property
    def router(self) -> Any:
        """The learned gate, or None."""
        return getattr(self._home, ROUTER, None)

    def take_out(self) -> None:
        """Remove the parameters that the block was given."""
        if self.router is not None:
            delattr(self._home, ROUTER)

    def attach(self, mode: Mode) -> None:
        self.detach()
        if mode == "masked":
            self._hooks = [
                self.ffn.key.register_forward_hook(self._after_keys),
                self.ffn.value.register_forward_pre_hook(self._before_values),
            ]
            if self.ffn.up is not None and self.routing.score == "up":
                self._hooks.append(self.ffn.up.register_forward_hook(self._after_up))
        elif mode == "grouped":
            self._check_groupable()
            if self.whole:
                self._replace(self.ffn.block, self._forward)
            else:  # BERT's: one module with keys and activation, another one with values, dropout and norm
                self._replace(self._home, _as_it_is)
                self._replace(self.ffn.value, self._grouped)

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for module in self._replaced:
            del module.__dict__["forward"]
        self._hooks, self._replaced = [], []

    def _replace(self, module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        """Let `module` run `forward`, which goes before its class's own until it is deleted."""
        module.__dict__["forward"] = forward
        self._replaced.append(module)

    def _check_groupable(self) -> None:
        routing = self.routing
        if routing.score != "key" or routing.capacity or routing.dropout:
            raise ParameterError('mode="grouped" scores by keys, without capacity and dropout: take mode="masked"')
        if any(hasattr(part, "base_layer") for part in (self.ffn.key, self.ffn.up, self.ffn.value)):
            raise ParameterError(f'{self.ffn.path}: has an adapter on it: take mode="masked", or merge the adapter')
        if not self.whole and "." not in self.ffn.pattern.key:
            raise ParameterError(f'{self.ffn.path}: its feed-forward part is no module of its own: take mode="masked"')

    # masked ---------------------------------------------------------------------------------------------------------------------------

    def _after_keys(self, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        self._x, self._keys = given[0], output
        if self.routing.dropout and module.training:
            return dropout(output, self.routing.dropout)
        return None

    def _after_up(self, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        self._up = output

    def _before_values(self, module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = given[0]
        tokens = hidden.reshape(-1, hidden.shape[-1])
        picked, weights = self._choose(self._scores(tokens), module.training)
        share = spread(picked, self.routing.experts, weights).to(hidden.dtype)
        masked = tokens.reshape(len(tokens), self.routing.experts, -1) * share[..., None]
        self._x = self._keys = self._up = None
        return (masked.reshape(hidden.shape), *given[1:])

    def _scores(self, hidden: Tensor) -> Tensor:
        """Scores (tokens, experts) in float32, from what the block computed already."""
        routing, x, keys = self.routing, self._x, self._keys
        if x is None or keys is None:
            raise ParameterError(f"{self.ffn.path}: its values were asked for before its keys")
        if self.router is not None:
            learned: Tensor = self.router(x.reshape(-1, x.shape[-1]))
            return learned
        with torch.no_grad():
            if routing.score == "key" and not routing.normalize:
                bias = self.ffn.key.bias
                found = self._means(keys)
                return found if bias is None else found - self._means(bias)
            if routing.score == "key":
                return x.reshape(-1, x.shape[-1]).float() @ self.gate_rows().t()
            source = {"up": self._up, "product": hidden, "absolute": hidden.abs()}[routing.score]
            return self._means(hidden if source is None else source)

    def _means(self, values: Tensor) -> Tensor:
        """Means over each expert's neurons, float32: (..., neurons) to (tokens, experts)."""
        return values.float().reshape(-1, self.routing.experts, self.ffn.width // self.routing.experts).mean(-1)

    # grouped --------------------------------------------------------------------------------------------------------------------------

    def gate_rows(self) -> Tensor:
        """The average gate (experts, d), float32: the mean of each expert's keys as they are now."""
        keys = rows(self.ffn.key)
        known = None if torch.is_grad_enabled() or keys.is_inference() else (keys.data_ptr(), keys._version)
        if known is not None and self._gate is not None and self._gate[0] == known:
            return self._gate[1]
        with torch.no_grad():
            found = keys.float().reshape(self.routing.experts, -1, keys.shape[1]).mean(1)
            found = normalize(found, dim=-1) if self.routing.normalize else found
        self._gate = (known, found)
        return found

    def stack(self) -> Stack:
        """The block's experts, as views of its parameters. The output's bias belongs to no expert: it is added once."""
        n, ffn = self.routing.experts, self.ffn

        def cut(part: Any) -> tuple[Tensor | None, Tensor | None]:
            if part is None:
                return None, None
            return rows(part).reshape(n, -1, ffn.dim), None if part.bias is None else part.bias.view(n, -1)

        (keys, key_bias), (up, up_bias) = cut(ffn.key), cut(ffn.up)
        assert keys is not None
        values = rows(ffn.value).reshape(ffn.dim, n, -1).transpose(0, 1)
        return Stack(keys, values, up, key_bias, up_bias)

    def _grouped(self, given: Tensor) -> Tensor:
        x = given.reshape(-1, given.shape[-1])
        if self.router is not None:
            scores = self.router(x)
        else:
            with torch.no_grad():
                scores = x.float() @ self.gate_rows().t()
        picked, weights = self._choose(scores, self.ffn.value.training)
        within = getattr(self.ffn.block, self.ffn.pattern.within or "", None) or nn.Identity()
        found = experts_forward(x, self.stack(), picked, weights, self.ffn.act, within)
        bias = self._shared_bias()
        return (found if bias is None else found + bias).view(*given.shape[:-1], -1)

    def _shared_bias(self) -> Tensor | None:
        """What is added once, whatever was chosen."""
        found: Tensor | None = self.ffn.value.bias
        return found

    def _forward(self, hidden_states: Tensor) -> Tensor:
        behind = getattr(self.ffn.block, self.ffn.pattern.behind or "", None) or nn.Identity()
        found: Tensor = behind(self._grouped(hidden_states))
        return found

    # both -----------------------------------------------------------------------------------------------------------------------------

    def _choose(self, scores: Tensor, training: bool) -> tuple[Tensor, Tensor | None]:
        """The chosen experts (tokens, k), and their weights unless all are 1."""
        routing = self.routing
        self.loss = None
        noisy = scores
        if training and routing.noise:
            noisy = scores + torch.randn_like(scores) * (routing.noise / routing.experts)
        if training and routing.auxiliary:
            self.loss = load_and_importance(scores, routing.top_k, routing.noise, self._real(scores))
        picked = chosen(noisy, routing.top_k, routing.rule)
        weights = self._weights(noisy.gather(-1, picked))
        if training and routing.capacity:
            fits = within_capacity(noisy, picked, routing.capacity, self._real(scores)).float()
            weights = fits if weights is None else weights * fits
        if self.counting:
            self._count(picked)
        return picked, weights

    def _weights(self, scores: Tensor) -> Tensor | None:
        """Weights (tokens, k) of the chosen from their scores, or None for 1 each."""
        return None if self.router is None else scores.softmax(-1) * self.routing.top_k

    def _real(self, scores: Tensor) -> Tensor | None:
        return self.real if self.real is not None and self.real.numel() == len(scores) else None

    def _count(self, picked: Tensor) -> None:
        real = self._real(picked)
        seen = picked if real is None else picked[real.reshape(-1).bool()]
        self.counts += torch.bincount(seen.reshape(-1), minlength=self.routing.experts).cpu()


def _as_it_is(x: Tensor) -> Tensor:
    return x
