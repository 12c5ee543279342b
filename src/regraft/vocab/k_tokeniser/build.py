"""Steps A to E: ontologies and a base tokenizer become a pool of tokenizers.

Enters: the base tokenizer, one ontology a type, the method's parameters. Leaves: a `Change` whose tokenizer is T_K (old ids as they were,
the pieces of each type behind them) and whose companion is the `KTokeniser` that chooses between the types.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from regraft.errors import OntologyError, ParameterError
from regraft.progress import progress_bar
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import make_loadable
from regraft.vocab.change import Change
from regraft.vocab.change.change import kept_ids
from regraft.vocab.change.rewrite import append_merges, pin_added_tokens, refresh_companions
from regraft.vocab.k_tokeniser.kbpe import cut_word
from regraft.vocab.k_tokeniser.knowledge import CONTINUES, Choices, Knowledge, SemanticType, characters, check_kind, piece_string
from regraft.vocab.k_tokeniser.ngrams import count_ngrams
from regraft.vocab.k_tokeniser.ontology import Ontology, check_names
from regraft.vocab.k_tokeniser.parameters import Parameters
from regraft.vocab.k_tokeniser.sufficient import DeltaPoint, delta_curve
from regraft.vocab.k_tokeniser.tokeniser import KTokeniser
from regraft.vocab.k_tokeniser.words import TypeWords, collect_words

PROBES = 50  # phrases a type on which the saved files must agree with transformers


def build(tokenizer: Tokenizer, ontologies: Sequence[Ontology], method: Parameters) -> Change:
    """The changed tokenizer; `change.companion` is its `KTokeniser`.

    Raises `TokenizerError` for a base tokenizer that is neither WordPiece nor byte-level BPE, `OntologyError` where type names clash or a
    type has no word that the base vocabulary can spell. A type without phrases is allowed: it knows no word.
    """
    check_kind(tokenizer)
    check_names([ontology.name for ontology in ontologies])
    if isinstance(method.pieces, Mapping):
        _check_types(method.pieces, ontologies)
    union: Counter[str] = Counter()
    kinds: list[SemanticType] = []
    notes: list[str] = []
    fresh: dict[str, int] = {}
    words: dict[str, TypeWords] = {}
    for ontology in ontologies:
        words[ontology.name] = found = collect_words(tokenizer, ontology, released=method.compat == "released")
        notes += _left_out(ontology, found)
        table = count_ngrams(found.counts, truncate=method.truncate)
        union.update(table)
        candidates = candidate_pieces(found.counts, table, method, ontology.name)
        curve = delta_curve(candidates)
        kept = keep_pieces(candidates, curve, method, ontology.name)
        spelled = (piece_string(tokenizer, piece) for piece in kept if _useful(tokenizer, piece))
        strings = [string for string in spelled if string not in tokenizer.vocab]
        for string in strings:
            fresh.setdefault(string, tokenizer.vocab_size + len(fresh))
        ids = tuple(dict.fromkeys(fresh[string] for string in strings))
        figures = ontology.summary()
        examples = figures.pop("examples")
        figures |= {"candidates": len(candidates), "kept": len(kept), "new": len(ids), "examples": examples}
        kinds.append(SemanticType(ontology.name, ids, figures, tuple(curve)))
        if not ids and ontology.phrases:
            notes.append(f"{ontology.name}: no new piece: all {len(kept)} pieces that were kept are in the base vocabulary already")
    enlarged, merges = add_strings(tokenizer, fresh)
    ready, more = _finish(enlarged, ontologies)
    knowledge = Knowledge(ready, tokenizer.vocab_size, merges, tuple(kinds), *_counts(ready, union), _choices(tokenizer, method))
    if union and knowledge.total < method.h0_count * 2.72:
        notes.append(
            f"the ontologies hold only {knowledge.total:,} n-grams: the threshold of {method.h0_count} below which no type knows a word "
            "means little; set h0_count lower"
        )
    k_tokeniser = KTokeniser(knowledge)
    unused = k_tokeniser.unused({ontology.name: words[ontology.name].counts for ontology in ontologies})
    return Change(ready, kept_ids(tokenizer, ready), unused, [*notes, *more], k_tokeniser)


def candidate_pieces(words: Mapping[str, int], table: Mapping[str, int], method: Parameters, name: str = "words") -> dict[str, int]:
    """Step C over all words of a type: piece (`##` inside a word) -> its n-gram count."""
    found: dict[str, int] = {}
    with progress_bar(f"cutting {name}", total=len(words), unit="words") as bar:
        for word in words:
            cut = cut_word(word, table, merges=method.merges, longest=method.longest, syllables_from=method.syllables_from)
            for position, piece in enumerate(cut):
                # as released, a piece counts as initial when its letter is the word's first, wherever it stands
                initial = piece[0] == word[0] if method.compat == "released" else position == 0
                found[piece if initial else CONTINUES + piece] = table[piece]
            bar.advance()
    return found


def keep_pieces(candidates: Mapping[str, int], curve: Sequence[DeltaPoint], method: Parameters, name: str) -> list[str]:
    """Step D: the most frequent candidates, as many as asked for; as released, the alphabetically first."""
    wanted = method.pieces.get(name, 1.0) if isinstance(method.pieces, Mapping) else method.pieces
    size = curve[method.delta_k - 1].size if curve else 0
    # a number is a count, a share is of the delta-sufficient set
    count = wanted if isinstance(wanted, int) else round(wanted * size)
    if method.compat == "released":
        return sorted(candidates)[:count]
    return sorted(candidates, key=lambda piece: (-candidates[piece], piece))[:count]


def add_strings(tokenizer: Tokenizer, fresh: Mapping[str, int]) -> tuple[Tokenizer, int]:
    """T_K and the number of merges that are the base's.

    In byte-level BPE a piece that the base spells in two pieces also gets a merge, after all old ones, so that plain loading uses it.
    """
    spec = tokenizer.editable()
    pin_added_tokens(tokenizer, spec)
    spec["model"]["vocab"].update(fresh)
    old = len(spec["model"].get("merges") or [])
    if tokenizer.algorithm == "byte-bpe":
        append_merges(spec, list(_merges(tokenizer, fresh)))
    return tokenizer.with_spec(spec), old


def _merges(tokenizer: Tokenizer, fresh: Iterable[str]) -> Iterator[tuple[str, str]]:
    made: dict[tuple[str, str], str] = {}
    for string in sorted(fresh, key=lambda string: (len(string), string)):
        parts = [tokenizer.pieces[token.id] for token in tokenizer.backend.model.tokenize(string)]
        while len(parts) > 2:
            pair = next((pair for pair in pairwise(parts) if pair in made), None)
            if pair is None:
                break
            place = parts.index(pair[0])
            place = next(i for i in range(place, len(parts) - 1) if (parts[i], parts[i + 1]) == pair)
            parts[place : place + 2] = [made[pair]]
        if len(parts) == 2:
            made[parts[0], parts[1]] = string
            yield parts[0], parts[1]


def _finish(tokenizer: Tokenizer, ontologies: Sequence[Ontology]) -> tuple[Tokenizer, list[str]]:
    refreshed, notes = refresh_companions(tokenizer)
    probes = [phrase for ontology in ontologies for phrase in ontology.phrases[:PROBES]]
    ready, more = make_loadable(refreshed, probes)
    return ready, [*notes, *more]


def _useful(tokenizer: Tokenizer, piece: str) -> bool:
    """Whether a piece may be added: byte-level models that cut numbers by digit do so on purpose, so theirs need a letter."""
    return tokenizer.algorithm != "byte-bpe" or any(character.isalpha() for character in piece)


def _counts(tokenizer: Tokenizer, union: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """The counts that can ever be asked for, those of a piece's characters, and the sum of all."""
    texts = {characters(tokenizer, i) for i in tokenizer.pieces}
    return {text: union[text] for text in sorted(texts) if text in union}, sum(union.values())


def _choices(tokenizer: Tokenizer, method: Parameters) -> Choices:
    released = method.compat == "released"
    default = tokenizer.algorithm == "wordpiece" and not released
    lowercase = default if method.lowercase is None else method.lowercase
    return Choices(method.h0_count, method.phi, method.unit, lowercase, released)


def _check_types(pieces: Mapping[str, object], ontologies: Sequence[Ontology]) -> None:
    names = [ontology.name for ontology in ontologies]
    unknown = [name for name in pieces if name not in names]
    if unknown:
        raise ParameterError(f"pieces: no type is called '{unknown[0]}': there are {', '.join(names)}")


def _left_out(ontology: Ontology, words: TypeWords) -> list[str]:
    if ontology.phrases and not words.counts:
        some = next(iter(words.unspellable + words.too_long), ontology.phrases[0])
        raise OntologyError(
            f"{ontology.source}: the base vocabulary can spell none of its words (such as '{some}'): choose a model that knows the script"
        )
    notes = []
    if words.unspellable:
        some = ", ".join(f"'{word}'" for word, _ in words.unspellable.most_common(3))
        notes.append(f"{ontology.name}: {len(words.unspellable)} words left out, the base vocabulary lacks characters of them: {some}")
    if words.too_long:
        notes.append(f"{ontology.name}: {len(words.too_long)} words left out, longer than the tokenizer accepts")
    return notes
