"""N-grams of old tokens made tokens, appended or in the place of tokens that the text hardly needs (AdaptiVocab).

Enters: a BPE tokenizer and text. Leaves: a `Change`. An n-gram is written as merges behind all old ones, so text is first cut as before and
then joined: encoding is patching on top of the old tokenizer. N-grams of several words are kept whole by the pre-tokenizer.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from regraft.errors import TokenizerError
from regraft.tokenizer.alphabet import is_whole_text
from regraft.tokenizer.chunk_pattern import keep_whole, takes_phrases
from regraft.tokenizer.model import Tokenizer
from regraft.tokenizer.reachability import check_reachability
from regraft.vocab.change.change import Change, kept_ids
from regraft.vocab.change.rewrite import read_merges, refresh_companions
from regraft.vocab.change.routes.continued import longest_number
from regraft.vocab.change.routes.ngram_choice import NGram, TokenStream, choose_ngrams
from regraft.vocab.change.words import MergeWriter

LONGEST = 4  # tokens in an n-gram (ours; the paper's limit is not published)
ROUNDS = 5  # of choosing again without n-grams that turned out unreachable


def extend_ngrams(tokenizer: Tokenizer, texts: Sequence[str], size: int, min_frequency: int, *, in_place: bool) -> Change:
    """`size` new tokens for n-grams of `texts`, those in between that merges need included; see `choose_ngrams`.

    With `in_place`, each takes the id of an old token that `texts` use least and that no other token is built on, so that the vocabulary
    keeps its size; text that used such a token is spelled by its parts.

    Raises `TokenizerError` for a tokenizer that is not BPE, or when the texts support fewer n-grams.
    """
    if "merges" not in tokenizer.model:
        raise TokenizerError(
            f"n-gram tokens are joined by merges, which {tokenizer.algorithm} tokenizers do not have: use --route continued"
        )
    stream = TokenStream.read(tokenizer, texts)
    banned: set[str] = set()
    for _ in range(ROUNDS):
        written = _write(tokenizer, stream, size, min_frequency, banned)
        extended = tokenizer.with_spec(written.spec)
        unreachable = check_reachability(extended, range(tokenizer.vocab_size, extended.vocab_size), texts)
        dropped = {extended.pieces[i] for i in unreachable} - banned
        if not dropped:
            break
        banned |= dropped
    notes = written.notes()
    if not in_place:
        fresh, more = refresh_companions(extended)
        return Change(fresh, kept_ids(tokenizer, fresh), unreachable, [*notes, *more])
    return _in_place(tokenizer, extended, texts, unreachable, notes)


class _Written:
    """A spec with n-grams in it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.writer = MergeWriter(tokenizer)
        self.chosen: list[NGram] = []

    def string(self, ids: Iterable[int]) -> str:
        """Old tokens in a row as the model's vocabulary writes them."""
        return "".join(self.tokenizer.pieces[i] for i in ids)

    def steps(self, ngram: NGram) -> list[str]:
        """What is made a piece on the way to `ngram`, itself last: its words, then its first two words, three words, and so on.

        Each of these is whole where text shows it, so none is a token that nothing produces.
        """
        if not ngram.crosses:
            return [self.string(ngram.ids)]
        words = [self.string(part) for part in ngram.parts if len(part) > 1]
        return words + ["".join(map(self.string, ngram.parts[:count])) for count in range(2, len(ngram.parts) + 1)]

    def needed(self, ngram: NGram) -> set[str] | None:
        """The new pieces that `ngram` takes, or None if merges cannot make it one token."""
        found: set[str] = set()
        for number, step in enumerate(self.steps(ngram)):
            if step in self.writer.new:
                continue
            across = ngram.crosses and number >= sum(len(part) > 1 for part in ngram.parts)
            pieces = {step} if across and step not in self.writer.taken else self.writer.needed(step)
            if pieces is None:
                return None
            found |= pieces
        return found or None

    def add(self, ngram: NGram) -> None:
        """Write it."""
        for step in self.steps(ngram):
            self.writer.add(step)
        self.chosen.append(ngram)

    @property
    def phrases(self) -> list[str]:
        """Text of several words that must reach the model whole."""
        across = [ngram.parts[:count] for ngram in self.chosen for count in range(2, len(ngram.parts) + 1)]
        texts = (b"".join(self.tokenizer.surface(i) for part in parts for i in part).decode() for parts in across)
        return list(dict.fromkeys(texts))

    @property
    def spec(self) -> dict[str, Any]:
        spec = self.writer.spec
        if self.phrases and self.tokenizer.spec.get("pre_tokenizer") is not None:
            spec = {**spec, "pre_tokenizer": keep_whole(self.tokenizer, self.phrases)}
        return spec

    def notes(self) -> list[str]:
        lengths = Counter(len(ngram.ids) for ngram in self.chosen)
        sizes = ", ".join(f"{count} of {n} tokens" for n, count in sorted(lengths.items()))
        across, saved = sum(ngram.crosses for ngram in self.chosen), sum(ngram.saved for ngram in self.chosen)
        return [
            f"{len(self.chosen)} n-grams ({sizes}; {across} of several words) save {saved:,} tokens of the text",
            f"{self.writer.between} more tokens are steps towards them",
        ]


def _write(tokenizer: Tokenizer, stream: TokenStream, size: int, min_frequency: int, banned: set[str]) -> _Written:
    written = _Written(tokenizer)
    crossing = tokenizer.spec.get("pre_tokenizer") is None or takes_phrases(tokenizer)

    def accept(ngram: NGram) -> bool:
        surface = b"".join(tokenizer.surface(i) for i in ngram.ids)
        if not is_whole_text(surface) or surface.endswith(b" "):
            return False
        if ngram.crosses and tuple(token.id for token in tokenizer.backend.model.tokenize(written.string(ngram.ids))) != ngram.ids:
            return False  # left whole, an old merge would work across what the pre-tokenizer kept apart
        needed = written.needed(ngram)
        return needed is not None and written.writer.fresh + len(needed) <= size and not banned & needed

    best_first = choose_ngrams(stream, _Allowed(tokenizer), accept, longest=LONGEST, min_frequency=min_frequency, crossing=crossing)
    for ngram in best_first:
        written.add(ngram)
        if written.writer.fresh == size:
            return written
    if written.writer.fresh == 0:
        raise TokenizerError(f"the text has no n-gram that occurs {min_frequency} times or more: give more text")
    raise TokenizerError(f"asked for {size} new tokens, the text supports {written.writer.fresh}: use --extend {written.writer.fresh}")


class _Allowed:
    """Which old tokens an n-gram may hold: those that merges can join, with no line break or run of spaces, and with digits only where old
    tokens join them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.no_digits = tokenizer, longest_number(tokenizer) is not None
        self.apart = {*tokenizer.added, tokenizer.unknown_id}
        if tokenizer.algorithm != "byte-bpe":
            self.apart |= set(tokenizer.byte_ids.values())  # bytes that stand in for a character: no merge sees them

    def __call__(self, token: int) -> bool:
        if token in self.apart:
            return False
        text = self.tokenizer.surface(token).decode("utf-8", "ignore")  # empty for a fragment of a character
        if text.isspace():
            return text == " "
        return "\n" not in text and not (self.no_digits and any(c.isdigit() for c in text))


def _in_place(old: Tokenizer, extended: Tokenizer, texts: Sequence[str], unreachable: Collection[int], notes: list[str]) -> Change:
    """`extended` with its new tokens at the ids of as many old ones."""
    fresh = list(range(old.vocab_size, extended.vocab_size))
    usage: Counter[int] = Counter()
    for start in range(0, len(texts), 1000):
        for ids in extended.encode_batch(texts[start : start + 1000]):
            usage.update(ids)
    victims = sorted(least_needed(old, extended, usage, len(fresh)))
    place = dict(zip(fresh, victims, strict=True))
    spec = extended.editable()
    gone = {old.pieces[i] for i in victims}
    model = spec["model"]
    model["vocab"] = {piece: place.get(i, i) for piece, i in model["vocab"].items() if piece not in gone}
    pairs = zip(model["merges"], read_merges(extended), strict=True)
    model["merges"] = [merge for merge, (a, b) in pairs if a + b.removeprefix(old.continuing_prefix) not in gone]
    tokenizer, more = refresh_companions(old.with_spec(spec))
    source_ids = kept_ids(old, tokenizer)
    source_ids[victims] = -1
    lost = sum(usage[i] for i in victims)
    said = f"they take the place of {len(victims)} old tokens, which stood {lost:,} times in the text and are spelled by their parts now"
    return replace(Change(tokenizer, source_ids), unreachable=sorted(place[i] for i in unreachable), notes=[*notes, said, *more])


def least_needed(old: Tokenizer, extended: Tokenizer, usage: Counter[int], count: int) -> list[int]:
    """`count` old tokens that can go, least used first (of equals, the one learned last): made by a merge and part of none that stays.

    Raises `TokenizerError` if there are not so many.
    """
    vocab, prefix = extended.model_vocab, extended.continuing_prefix
    parts: dict[int, set[tuple[int, int]]] = {}
    uses: Counter[int] = Counter()
    for a, b in read_merges(extended):
        made, pair = vocab[a + b.removeprefix(prefix)], (vocab[a], vocab[b])
        if pair not in parts.setdefault(made, set()):
            parts[made].add(pair)
            uses.update(set(pair))
    removable = {i for i in parts if i < old.vocab_size and i not in old.added and i != old.unknown_id}
    heap = [(usage[i], -i) for i in removable if not uses[i]]
    heapq.heapify(heap)
    gone: list[int] = []
    while heap and len(gone) < count:
        token = -heapq.heappop(heap)[1]
        gone.append(token)
        for pair in parts[token]:
            for part in set(pair):
                uses[part] -= 1
                if not uses[part] and part in removable:
                    heapq.heappush(heap, (usage[part], -part))
    if len(gone) < count:
        raise TokenizerError(f"only {len(gone)} old tokens can be spared, {count} are to be replaced: use --extend {len(gone)} or fewer")
    return gone
