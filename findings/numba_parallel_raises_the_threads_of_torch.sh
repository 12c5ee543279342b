#!/bin/sh
# numba 0.68.1 and torch 2.13.0 (CPU wheels): the first parallel numba function changes how many threads PyTorch works with.
#
# Guess: OMP_NUM_THREADS=1 and `torch.set_num_threads(1)` hold for PyTorch whatever another library compiles.
# Seen: after one call of a function made with `numba.njit(parallel=True)`, `torch.get_num_threads()` is numba's number of threads. Both share
# one OpenMP run-time, and launching numba's pool sets its number for the calling thread. Small steps of PyTorch then wait for each other: on
# a busy machine of two cores a forward and backward pass of a 16 x 16 layer went from 0.16 to 17 ms of processor time.
# Why it matters: a compiled sampler (random walks, negative samples) before a training of a small network makes it a hundred times slower,
# and nothing in the training's own code shows why. `parallel=False`, or setting PyTorch's number again after the call, cures it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 numba==0.68.1 torch==2.13.0
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2 "$folder/venv/bin/python" - <<'PY'
import numba
import numpy as np
import torch

torch.set_num_threads(1)
seen = [torch.get_num_threads()]


@numba.njit
def alone(x):
    for i in range(len(x)):
        x[i] += 1


@numba.njit(parallel=True)
def shared(x):
    for i in numba.prange(len(x)):
        x[i] += 1


for function in (alone, shared):
    function(np.zeros(8))
    seen.append(torch.get_num_threads())
print(numba.__version__, torch.__version__, numba.threading_layer(), seen)
assert seen == [1, 1, 2], seen
PY
