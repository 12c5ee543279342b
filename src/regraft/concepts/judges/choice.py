"""Which judge a pipeline has."""

import torch

from regraft.concepts.judges.clip import ClipJudge
from regraft.concepts.judges.colored_digits import DigitJudge
from regraft.concepts.judges.judge import Judge
from regraft.concepts.toy import NAME


def judge_of(pipeline: str, given: str | None, references: torch.Tensor, device: str = "cpu") -> Judge | None:
    """The judge that is `given` (a CLIP model), or the toy's own; None where there is neither. `references` : images of the concept."""
    if given is not None:
        return ClipJudge.open(given, references, device)
    if pipeline == NAME:
        return DigitJudge.of(references)
    return None
