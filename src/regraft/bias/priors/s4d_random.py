"""The same state spaces, started at random: what the initial values of S4D are worth."""

from typing import Literal

from regraft.bias.priors.s4d import S4d
from regraft.bias.ssm.initial import Init


class S4dRandom(S4d):
    """`s4d` with random imaginary parts (log-normal), as in the ablations of section 5."""

    summary = "the same state spaces, whose frequencies start at random: the ablation"

    init: Init | Literal["mixed"] = "rand"
