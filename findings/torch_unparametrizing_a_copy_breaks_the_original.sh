#!/bin/sh
# torch 2.13.0: removing a parametrization from a deep copy takes it from the original, too, which is then broken.
#
# Guess: a deep copy of a module shares nothing with it, so `remove_parametrizations(copy, "weight")` leaves the original alone.
# Seen: the copy has the original's own (dynamic) class, and the property `weight` is taken from that class: the original raises
# AttributeError for its weight. A copy through `state_dict` into a fresh module is safe.
# Why it matters: "export a plain copy, train on with the parametrized one" is how weight norm, orthogonal maps and templates are used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

first = nn.Linear(2, 2)
parametrize.register_parametrization(first, "weight", nn.Identity())
second = copy.deepcopy(first)
same_class = type(first) is type(second)
parametrize.remove_parametrizations(second, "weight")
try:
    told = tuple(first.weight.shape)
except AttributeError as error:
    told = type(error).__name__
print(torch.__version__, {"same class": same_class, "the original's weight": told, "the copy's": tuple(second.weight.shape)})
assert (same_class, told, tuple(second.weight.shape)) == (True, "AttributeError", (2, 2))
PY
