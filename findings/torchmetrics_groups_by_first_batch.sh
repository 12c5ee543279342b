#!/bin/sh
# torchmetrics 1.9.0: a MetricCollection merges metrics for good whose states are equal after the FIRST batch, whatever their parameters.
#
# Guess: metrics with other parameters (Minkowski distance with p=1 and p=2) are kept apart, or merged only where the result is the same.
# Seen: if the first batch makes their sums equal (here all differences are 0 or 1), the second is never updated again: 2.0 instead of
# sqrt(1 + 9) = 3.162, without a warning. `compute_groups=False` gives the right figure.
# Why it matters: figures of a collection depend on which batch came first. A metric of one's own whose state depends on a parameter
# should give its state a name that holds the parameter.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0 torchmetrics==1.9.0
"$folder/venv/bin/python" - <<'PY'
import torch
import torchmetrics
from torchmetrics import MetricCollection
from torchmetrics.regression import MinkowskiDistance


def distances(groups):
    both = MetricCollection({"p=1": MinkowskiDistance(p=1), "p=2": MinkowskiDistance(p=2)}, compute_groups=groups)
    both.update(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 1.0, 2.0]))  # differences 0, 1, 0: equal sums of |d| and d^2
    both.update(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0]))  # differences 3, 0
    return {name: round(float(value), 3) for name, value in both.compute().items()}


seen = {"merged": distances(True), "apart": distances(False)}
print(torchmetrics.__version__, seen)
assert seen == {"merged": {"p=1": 4.0, "p=2": 2.0}, "apart": {"p=1": 4.0, "p=2": 3.162}}, seen
PY
