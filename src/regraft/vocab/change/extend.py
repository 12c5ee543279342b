"""Extend and replace: the two ways to give a model another vocabulary."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

from regraft.errors import ParameterError, TokenizerError
from regraft.tokenizer.as_transformers import make_loadable
from regraft.tokenizer.model import Tokenizer
from regraft.tokenizer.overlap import match_tokens
from regraft.tokenizer.pretokenizer import measure_segmentation, scripts_cut_at_marks, widen_pretokenizer
from regraft.vocab.change.change import Change
from regraft.vocab.change.routes.auxiliary import extend_auxiliary
from regraft.vocab.change.routes.continued import check_size, extend_continued
from regraft.vocab.change.routes.ngram_route import extend_ngrams

Route = Literal["continued", "new-first", "old-first", "n-grams", "adaptivocab"]

_CUT_SHARE = 0.002  # of the words: below this, a script that is cut at its marks is a stray quotation and not worth a note


def extend(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    size: int,
    *,
    route: Route = "continued",
    min_frequency: int = 2,
    widen: bool = False,
) -> Change:
    """Add `size` pieces learned on `texts`; ids of old tokens stay, new ids follow the highest one (but for "adaptivocab").

    Parameters
    ----------
    texts : training text; read once and held in memory.
    route : "continued" learns merges on top of the old ones; "new-first" and "old-first" merge in an auxiliary tokenizer; "n-grams" makes
        tokens of the n-grams that save most, across words too; "adaptivocab" puts those in the place of old tokens of little use.
    min_frequency : how often a pair must occur to be learned.
    widen : first let marks belong to the letters before them, see `widen_pretokenizer`.

    Raises `ParameterError` for a size below 1 or an unknown route, `TokenizerError` when the texts support fewer pieces. An auxiliary
    tokenizer may support them but leave too few that any text produces: then fewer are added, and the notes say so.
    """
    check_size(size)
    if route not in get_args(Route):
        raise ParameterError(f"route '{route}': choose one of {', '.join(get_args(Route))}")
    stored = list(texts)
    notes: list[str] = []
    base = tokenizer
    cut = scripts_cut_at_marks(tokenizer, stored)
    if widen:
        base = widen_pretokenizer(tokenizer)
        effect = measure_segmentation(tokenizer, base, stored)
        notes.append("the pre-tokenizer has no pattern to widen" if base is tokenizer else f"pre-tokenizer widened: {effect}")
    elif cut := {script: count for script, count in cut.items() if count >= _CUT_SHARE * _count_words(stored)}:
        worst = ", ".join(f"{script} ({count} words)" for script, count in list(cut.items())[:5])
        notes.append(
            f"the pre-tokenizer cuts words at combining marks, so no new piece can join them: {worst}; --widen-pretokenizer mends it"
        )
    if route == "continued":
        change = extend_continued(base, stored, size, min_frequency)
    elif route == "n-grams" or route == "adaptivocab":
        change = extend_ngrams(base, stored, size, min_frequency, in_place=route == "adaptivocab")
    else:
        change = extend_auxiliary(base, stored, size, route, min_frequency)
    changed_pattern = change.tokenizer.spec.get("pre_tokenizer") != tokenizer.spec.get("pre_tokenizer")
    loadable, more = make_loadable(change.tokenizer, stored, same_pattern=changed_pattern)
    return Change(loadable, change.source_ids, change.unreachable, [*notes, *change.notes, *more])


def _count_words(texts: Iterable[str]) -> int:
    return sum(len(text.split()) for text in texts)


def replace(tokenizer: Tokenizer, target: Tokenizer) -> Change:
    """Take `target` instead; a token that both have keeps its source.

    Ids in its post-processor become those of their tokens where they are not: a tokenizer that was trained anew from another one may carry
    that one's. Raises `TokenizerError` for a token there that `target` lacks.
    """
    target, notes = mend_post_processor(target)
    source_ids = match_tokens(tokenizer, target)
    found = int((source_ids >= 0).sum())
    return Change(target, source_ids, [], [f"{found} of {len(target.pieces)} tokens of the new tokenizer exist in the old one", *notes])


def mend_post_processor(tokenizer: Tokenizer) -> tuple[Tokenizer, list[str]]:
    """`tokenizer` with a post-processor whose ids are those of the tokens that it names, and a note if they were not."""
    spec, mended = tokenizer.editable(), {}

    def id_of(token: str, stored: int) -> int:
        if token not in tokenizer.vocab:
            raise TokenizerError(f"{tokenizer.where}: its post-processor adds {token}, which is not in its vocabulary: mend the file")
        if tokenizer.vocab[token] != stored:
            mended[token] = (stored, tokenizer.vocab[token])
        return tokenizer.vocab[token]

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            for inner in part.get("processors") or []:
                walk(inner)
            for entry in (part.get("special_tokens") or {}).values():
                if len(entry.get("tokens") or []) == len(entry["ids"]):
                    entry["ids"] = [id_of(token, i) for token, i in zip(entry["tokens"], entry["ids"], strict=True)]
            for name in ("cls", "sep"):
                if isinstance(part.get(name), list):
                    part[name] = [part[name][0], id_of(*part[name])]

    walk(spec.get("post_processor"))
    if not mended:
        return tokenizer, []
    named = ", ".join(f"{token} was {old}, is {new}" for token, (old, new) in mended.items())
    return tokenizer.with_spec(spec), [f"ids in the new tokenizer's post-processor were not those of its tokens and are mended: {named}"]
