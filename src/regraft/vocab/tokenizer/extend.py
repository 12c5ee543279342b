"""Extend and replace: the two ways to give a model another vocabulary."""

from collections.abc import Iterable
from typing import Literal

from regraft.vocab.overlap import match_tokens
from regraft.vocab.tokenizer.change import Change
from regraft.vocab.tokenizer.continued import check_size, extend_continued
from regraft.vocab.tokenizer.model import Tokenizer

Route = Literal["continued", "new-first", "old-first"]


def extend(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    size: int,
    *,
    route: Route = "continued",
    min_frequency: int = 2,
    widen: bool = False,
) -> Change:
    """Add `size` pieces learned on `texts`; ids of old tokens stay, new ids follow the highest one.

    Raises `ParameterError` for a size below 1 or an unknown route, `TokenizerError` when the texts support fewer pieces.
    """
    check_size(size)
    return extend_continued(tokenizer, texts, size, min_frequency)


def replace(tokenizer: Tokenizer, target: Tokenizer) -> Change:
    """Take `target` instead; a token that both have keeps its source."""
    source_ids = match_tokens(tokenizer, target)
    found = int((source_ids >= 0).sum())
    return Change(target, source_ids, [], [f"{found} of {len(target.pieces)} tokens of the new tokenizer exist in the old one"])
