#!/bin/sh
# scipy 1.17.1: `ncx2.logpdf` is -inf in the middle of the distribution, where `ncx2.pdf` is an ordinary number.
#
# Guess: a logpdf reaches further than the log of the pdf; -inf only far out in a tail.
# Seen: with 1,000 degrees of freedom and noncentrality 1, at x = 1,000 (its median): pdf 0.0089, logpdf -inf. With 500 degrees of
# freedom logpdf is right at noncentrality 1 and -inf at 0.001. `chi2.logpdf`, the limit of noncentrality 0, is right.
# Why it matters: `ncx2.fit` maximises this logpdf. A likelihood of many degrees of freedom is -inf for good parameters, and the fit ends
# elsewhere without a word.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PY'
import scipy
from scipy.stats import chi2, ncx2

seen = {
    "cdf": round(float(ncx2.cdf(1000, 1000, 1)), 1),
    "pdf": round(float(ncx2.pdf(1000, 1000, 1)), 4),
    "logpdf": float(ncx2.logpdf(1000, 1000, 1)),
    "df 500, nc 1": round(float(ncx2.logpdf(500, 500, 1)), 3),
    "df 500, nc 0.001": float(ncx2.logpdf(500, 500, 0.001)),
    "chi2": round(float(chi2.logpdf(1000, 1000)), 3),
}
print(scipy.__version__, seen)
none = float("-inf")
assert seen == {"cdf": 0.5, "pdf": 0.0089, "logpdf": none, "df 500, nc 1": -4.374, "df 500, nc 0.001": none, "chi2": -4.72}, seen
PY
