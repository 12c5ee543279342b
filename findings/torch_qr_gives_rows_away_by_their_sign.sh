#!/bin/sh
# torch 2.13.0 (CPU): the orthonormal rows that `torch.linalg.qr` makes of normal numbers are not random: their signs say which is which.
#
# Guess: Q of a Gaussian matrix is uniformly distributed over orthonormal matrices, as textbooks say of Gram-Schmidt.
# Seen: over 2,000 draws of 9 x 7, the first diagonal entry of Q is never above 0 and the others only in 6 to 19 % of draws: the
# factorization leaves the signs to R. After multiplying Q's columns by the signs of R's diagonal each is above 0 in half of the draws.
# Why it matters: random orthonormal codes that must not tell items apart (anonymous symbols, random features) give them away.
# `torch.nn.init.orthogonal_` multiplies by these signs itself.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" - <<'PY'
import torch

torch.manual_seed(0)
q, r = torch.linalg.qr(torch.randn(2000, 9, 7))
signs = r.diagonal(dim1=1, dim2=2).sign()
raw = q.diagonal(dim1=1, dim2=2).gt(0).double().mean(0)
mended = (q * signs.unsqueeze(1)).diagonal(dim1=1, dim2=2).gt(0).double().mean(0)
print(torch.__version__, "share above 0, raw:", [round(float(x), 2) for x in raw], "by R's signs:", [round(float(x), 2) for x in mended])
assert raw[0] == 0 and raw.max() < 0.25, raw
assert (mended - 0.5).abs().max() < 0.05, mended
PY
