"""What all stages share: an encoder with linear heads, losses of examples, one loop of training.

Logits are (n, classes), or (n, 1) of two classes: then the loss is the binary cross-entropy and the threshold is 0.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from regraft.errors import ParameterError
from regraft.progress import progress_bar

MakeEncoder = Callable[[], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a stage is trained.

    rate : of Adam on all examples at once, or with `batch` of stochastic gradient descent (momentum 0.9; the authors' 1e-3). l2 : times the
    sum of squares of all weights and biases that learn. eta : step of the weights of groups, with `batch`. seed : of weights and batches.
    """

    rate: float = 5e-4
    l2: float = 0.0011
    batch: int | None = None
    eta: float = 0.01
    seed: int = 0


class Network(nn.Module):
    """An encoder (n, ...) -> (n, d) and linear heads on it."""

    def __init__(self, encoder: nn.Module, heads: Iterable[nn.Linear]) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the first head."""
        logits: Tensor = self.heads[0](self.encoder(x))
        return logits


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    """Flatten, then two layers of rectified units; weights uniform as Glorot has them, no bias."""
    layers = (nn.Linear(inputs, hidden), nn.Linear(hidden, hidden))
    for layer in layers:
        plain_start(layer)
    return nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU())


def plain_start(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def fresh(make_encoder: MakeEncoder, x: Tensor, classes: int, seed: int, heads: int = 1) -> Network:
    """A network with new weights; of two classes a head has one logit. Raises `ParameterError` where the encoder gives no rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = make_encoder()
        width = features(encoder, x[:2]).shape
        if len(width) != 2:
            raise ParameterError(f"the encoder gives {tuple(width)} for two examples: it must give one row each")
        outputs = 1 if classes == 2 else classes
        return Network(encoder, [plain_start(nn.Linear(width[1], outputs)) for _ in range(heads)])


@torch.no_grad()
def features(encoder: nn.Module, x: Tensor, block: int = 4096) -> Tensor:
    """(n, d), as in inference."""
    mode = encoder.training
    encoder.eval()
    rows = torch.cat([encoder(part) for part in torch.split(x, block)])
    encoder.train(mode)
    return rows


def losses_of(logits: Tensor, y: Tensor) -> Tensor:
    """(n,) cross-entropies."""
    if logits.shape[1] == 1:
        return binary_cross_entropy_with_logits(logits[:, 0], y.to(logits.dtype), reduction="none")
    return cross_entropy(logits, y, reduction="none")


def guess(logits: Tensor) -> Tensor:
    """(n,) classes."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


@torch.no_grad()
def predict(network: Network, x: Tensor) -> Tensor:
    """(n,) classes by the first head."""
    return guess(network.heads[0](features(network.encoder, x)))


def descend(learning: list[nn.Parameter], loss: Callable[[], Tensor], steps: int, how: Descent, label: str) -> list[tuple[float, float]]:
    """`steps` of the optimizer on `loss` and the l2 of what learns. Returns (step, loss) now and then."""
    sgd = how.batch is not None
    optimizer = torch.optim.SGD(learning, how.rate, momentum=0.9) if sgd else torch.optim.Adam(learning, how.rate)
    curve = []
    with progress_bar(label, steps, "steps") as bar:
        for at in range(steps):
            value = loss()
            total = value + how.l2 * torch.stack([one.square().sum() for one in learning]).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if at % max(1, steps // 50) == 0 or at == steps - 1:
                curve.append((float(at + 1), float(value.detach())))
            bar.advance()
    return curve
