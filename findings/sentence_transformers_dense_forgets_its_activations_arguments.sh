#!/bin/sh
# sentence-transformers 6.2.0: a saved Dense layer comes back with its activation's default arguments.
#
# Guess: a model with `Dense(4, 3, activation_function=nn.LeakyReLU(0.5))` gives the same vectors after save and load.
# Seen: only the class of the activation is written; LeakyReLU(0.5) comes back with a slope of 0.01, and negative entries are 50 times
# smaller. No warning. Softmax(dim=-1) comes back as Softmax(dim=None).
# Why it matters: vectors of an index and of the reloaded model that should query it no longer agree.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 transformers==5.24.0 sentence-transformers==6.2.0
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PY'
import sys
import warnings

import sentence_transformers
import torch
from sentence_transformers.sentence_transformer.modules import Dense
from torch import nn

warnings.simplefilter("error")
torch.manual_seed(0)
layer = Dense(4, 3, activation_function=nn.LeakyReLU(0.5))
layer.save(sys.argv[1])
again = Dense.load(sys.argv[1])
rows = {"sentence_embedding": torch.randn(50, 4)}
first, second = (one(dict(rows))["sentence_embedding"].detach() for one in (layer, again))
ratio = float((first / second)[first < 0].mean())
seen = {"slope": again.activation_function.negative_slope, "negative entries, before over after": round(ratio, 3)}
print(sentence_transformers.__version__, seen)
assert seen == {"slope": 0.01, "negative entries, before over after": 50.0}, seen
PY
