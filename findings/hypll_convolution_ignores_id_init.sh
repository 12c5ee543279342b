#!/bin/sh
# hypll 0.1.1: a hyperbolic convolution takes `id_init` and does not read it.
#
# Guess: `HConvolution2d(..., id_init=True)` starts as the identity of Poincare ResNet, and `id_init=False` at random.
# Seen: both give the same weights from the same seed. Whether the start is an identity follows from the shape alone: the weights of an 8 to 8
# convolution with a 3 x 3 kernel (72 to 8) are random, those of a 1 x 1 kernel have a diagonal and zeros elsewhere.
# Why it matters: deep Poincare networks depend on that start (features of the usual one fade to 1e-10 in 20 layers), and who asks for it does
# not get it for kernels of 3 x 3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 hypll==0.1.1
"$folder/venv/bin/python" - <<'PY'
import torch
from hypll.manifolds.poincare_ball import Curvature, PoincareBall
from hypll.nn import HConvolution2d


def start(kernel, asked):
    torch.manual_seed(0)
    return HConvolution2d(8, 8, kernel, PoincareBall(Curvature(0.1)), id_init=asked).weights.tensor.detach()


def diagonal(weights):
    square = weights[:8, :8]
    return bool((square - torch.diag(square.diagonal())).abs().max() == 0)


seen = {kernel: (torch.equal(start(kernel, True), start(kernel, False)), diagonal(start(kernel, True))) for kernel in (1, 3)}
print("hypll 0.1.1, kernel: (asking changes nothing, diagonal):", seen)
assert seen == {1: (True, True), 3: (True, False)}, seen
PY
