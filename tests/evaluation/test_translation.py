"""chrF of few-shot translation: what is written, how it is scored, and what is refused."""

import itertools
import json
import math
import sys

import numpy as np
import pytest
import torch
from sacrebleu.metrics import CHRF
from typer.testing import CliRunner

from regraft.cli import app
from regraft.corpus.pairs import read_pairs
from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.evaluation import chrf, translate, translation
from regraft.evaluation.chrf import ChrfSample, ngram_counts
from regraft.evaluation.paired import paired_effect
from toys.directory import save_decoder
from toys.models import bert, gpt2, llama, texts, tokenizer, wordpiece

PAIRS = list(zip(texts(30), texts(30, seed=1), strict=True))
HYPOTHESES = ["the cat sat on a mat", "", "ගස් යට", "an old map of the land café"]
REFERENCES = ["the cat sat on the mat", "a hat", "ගස් යට පොත", "a new map of the land"]


def chain(*words):
    """A decoder that writes `words` behind a prompt that ends in "=": its layers add nothing, and each token's successor is in the head."""
    model, tok = llama(tied=False), tokenizer()
    ids = [tok.encode("=")[-1], *(i for word in words for i in tok.encode(word))]
    assert len(set(ids)) == len(ids)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        table = model.get_input_embeddings().weight
        model.lm_head.weight.zero_()
        for token, successor in itertools.pairwise(ids):
            model.lm_head.weight[successor] = table[token] / table[token].norm()
    return model, tok, len(ids) - 1


# The metric


def test_chrf_of_all_sentences_is_sacrebleus_own():
    counts = ngram_counts(HYPOTHESES, REFERENCES)
    assert counts.shape == (4, 18)
    assert chrf.chrf(counts.sum(0)) == pytest.approx(CHRF().corpus_score(HYPOTHESES, [REFERENCES]).score, abs=1e-12)
    one = [chrf.chrf(row) for row in counts]
    assert one == pytest.approx([CHRF().sentence_score(h, [r]).score for h, r in zip(HYPOTHESES, REFERENCES, strict=True)], abs=1e-12)


def test_a_resample_is_the_chrf_of_the_drawn_sentences():
    sample, drawn = ChrfSample(ngram_counts(HYPOTHESES, REFERENCES)[None]), [0, 2, 2, 3]
    expected = CHRF().corpus_score([HYPOTHESES[i] for i in drawn], [[REFERENCES[i] for i in drawn]]).score
    assert sample.resample(np.array(drawn), np.array([0])) == pytest.approx(expected, abs=1e-12)


def test_two_systems_are_compared_on_the_same_sentences():
    better = ngram_counts(REFERENCES, REFERENCES)
    worse = ngram_counts(HYPOTHESES, REFERENCES)
    same = paired_effect(ChrfSample(worse[None]), ChrfSample(worse[None]))
    assert (same.effect, same.low, same.high) == (0.0, 0.0, 0.0)
    found = paired_effect(ChrfSample(np.stack([worse, worse])), ChrfSample(np.stack([worse, better])), draws=200)
    assert found.method == pytest.approx((found.baseline + 100) / 2)
    assert found.low <= found.effect <= found.high
    assert found.seeds == 2


def test_counts_need_as_many_references_and_the_library(monkeypatch):
    with pytest.raises(ParameterError, match="4 hypotheses for 3 references"):
        ngram_counts(HYPOTHESES, REFERENCES[:3])
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    chrf.metric.cache_clear()
    with pytest.raises(EvaluationError, match=r"chrF needs sacrebleu: pip install 'regraft\[translation\]'"):
        translate(llama(), tokenizer(), PAIRS)


# What is written


def test_a_known_model_writes_its_words_up_to_the_end_of_the_line():
    model, tok, steps = chain(" hat", " map\n")
    assert tok.encode("=") == tok.encode("x =")[-1:]
    done = translate(model, tok, PAIRS, examples=2, sentences=11, new_tokens=50)
    assert done.hypotheses == ["hat map"] * 11
    assert done.steps.tolist() == [steps] * 11  # the newline is a step too
    assert done.characters_per_step == pytest.approx(len("hat map") / steps)
    assert done.tokens_per_sentence == steps
    assert done.chrf == pytest.approx(CHRF().corpus_score(done.hypotheses, [done.references]).score, abs=1e-12)
    assert len(set(done.references)) > 1


def test_the_end_of_the_text_and_the_limit_end_a_sentence_too():
    model, tok, steps = chain(" hat", "<eos>")
    done = translate(model, tok, PAIRS, examples=1, sentences=3, new_tokens=50)
    assert done.hypotheses == ["hat"] * 3
    assert done.steps.tolist() == [steps] * 3
    assert translate(model, tok, PAIRS, examples=1, sentences=3, new_tokens=1).steps.tolist() == [1] * 3


@pytest.mark.parametrize("make", [llama, gpt2])
def test_what_is_written_is_the_models_own_greedy_choice(make, monkeypatch):
    """Side by side behind a shared beginning, as one by one from a prompt of its own."""
    monkeypatch.setattr(translation, "ROWS", 4)
    model, tok = make(), tokenizer()
    short = [(" ".join(a.split()[:4]), " ".join(b.split()[:4])) for a, b in PAIRS]
    done = translate(model, tok, short, examples=2, template="say {source} as {reference}", sentences=7, new_tokens=12)
    order = np.random.default_rng(0).permutation(len(short)).tolist()
    lines = "".join(f"say {a} as {b}\n" for a, b in (short[i] for i in order[:2]))
    asked = [pair for pair in short if pair[1] in done.references]
    for (source, reference), hypothesis, steps in zip(asked, done.hypotheses, done.steps, strict=True):
        assert reference not in lines
        ids = torch.tensor([[tok.eos_token_id, *tok.encode(f"{lines}say {source} as")]])
        options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
        text = tok.decode(model.generate(ids, **options)[0, ids.shape[1] :])
        assert hypothesis == text.partition("\n")[0].partition("<eos>")[0].strip()
        assert 1 <= steps <= 12


def test_the_limit_follows_from_the_examples_and_not_from_the_references():
    model, tok, _ = chain("a")
    a, table = tok.encode("a")[0], model.get_input_embeddings().weight
    with torch.no_grad():
        model.lm_head.weight[a] += table[a] / table[a].norm()  # it goes on for ever
    pairs = [("z" * 10, "w" * 500)] * 2
    pairs[np.random.default_rng(0).permutation(2)[0]] = ("x" * 20, "y" * 30)
    assert len(tok.encode("y" * 30)) == 30
    done = translate(model, tok, pairs, examples=1)
    assert done.steps.tolist() == [math.ceil(1.5 * 30 / 20 * 10)]
    assert done.hypotheses == ["a" * 23]


def test_examples_and_sentences_are_those_of_the_seed_and_no_text_of_an_example_is_scored():
    model, tok, _ = chain(" hat\n")
    twice = [*PAIRS[:6], *PAIRS[:6]]
    seeds = [translate(model, tok, twice, examples=3, seed=seed).references for seed in range(6)]
    assert all(len(found) in (6, 8, 10) for found in seeds)  # a pair that was shown is out with its copy
    assert len({tuple(found) for found in seeds}) > 1
    assert seeds[0] == translate(model, tok, twice, examples=3, seed=0).references


def test_the_interval_holds_the_estimate_and_repeats():
    model, tok, _ = chain(" the", " cat", " sat\n")
    done = translate(model, tok, PAIRS, examples=2)
    low, high = done.interval(seed=3)
    assert (low, high) == done.interval(seed=3) != done.interval(seed=4)
    assert low < done.chrf < high
    figures = done.to_dict(seed=3)
    assert figures["chrf_interval"] == [low, high]
    assert figures["sentences"] == len(PAIRS) - 2
    assert "nc:6" in figures["signature"]
    json.dumps(figures, allow_nan=False)


def test_translating_leaves_the_model_as_it_was():
    model, tok, _ = chain(" hat\n")
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    translate(model, tok, PAIRS, sentences=2)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# What is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"examples": 0}, "examples=0: give at least 1"),
        ({"sentences": 0}, "sentences=0: give at least 1"),
        ({"new_tokens": 0}, "new_tokens=0: give at least 1"),
        ({"template": "{source} ="}, "needs {source} and, at its end, {reference}"),
        ({"template": "{reference} = {source}"}, "needs {source} and"),
        ({"template": "{source} = {reference}."}, "needs {source} and"),
        ({"template": "{source} {source} = {reference}"}, "once each"),
    ],
)
def test_options_that_make_no_sense(options, says):
    with pytest.raises(ParameterError, match=says.replace("{", r"\{")):
        translate(llama(), tokenizer(), PAIRS, **options)


def test_too_few_pairs_empty_sides_and_models_that_do_not_write():
    with pytest.raises(CorpusError, match="5 pairs leave none to translate beside 5 examples"):
        translate(llama(), tokenizer(), PAIRS[:5])
    with pytest.raises(CorpusError, match="every pair shares a text with an example"):
        translate(llama(), tokenizer(), [PAIRS[0]] * 8)
    for pair, side in ((("a", " "), "reference"), (("", "b"), "source")):
        with pytest.raises(CorpusError, match=f"pair 3: the {side} is empty"):
            translate(llama(), tokenizer(), [*PAIRS[:2], pair, *PAIRS[2:]])
    with pytest.raises(CorpusError, match="lone surrogate"):
        translate(llama(), tokenizer(), [*PAIRS, ("a", "\ud800")])
    with pytest.raises(EvaluationError, match="BertForMaskedLM does not generate text: translations are for decoders"):
        translate(bert(), wordpiece(), PAIRS)
    with pytest.raises(EvaluationError, match="the model reads 256: fewer examples"):
        translate(gpt2(), tokenizer(), PAIRS, examples=20)


# Files of pairs


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.tsv", "a cat\tකැට්\n\nsaid \"no\"\t'b'\n"),
        ("p.tsv", '"said ""no"""\t\'b\'\na cat\tකැට්\n'),
        ("p.csv", 'id,source,reference\n1,a cat,කැට්\n2,"said ""no""",\'b\'\n'),
        ("p.jsonl", '{"source": "a cat", "reference": "කැට්"}\n{"reference": "\'b\'", "source": "said \\"no\\""}\n'),
    ],
)
def test_pairs_of_tables(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert sorted(read_pairs(tmp_path / name)) == [("a cat", "කැට්"), ('said "no"', "'b'")]


def test_unquoted_tables_may_begin_a_field_with_a_quote(tmp_path):
    (tmp_path / "p.tsv").write_text('"Go," she said.\t"x\n', encoding="utf-8")
    assert read_pairs(tmp_path / "p.tsv") == [('"Go," she said.', '"x')]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.tsv", "a\tb\tc\n", r"line 1 has 3 columns: it needs two columns, or a header with 'source' and 'reference'"),
        ("p.csv", "id,source,reference\n1,a\n", "line 2 has 2 columns: it needs 3 columns"),
        ("p.tsv", "a\tb\nc\t \n", "line 2: the reference is empty"),
        ("p.jsonl", '{"source": "a"}', "record 1 is no object with the texts 'source' and 'reference'"),
        ("p.jsonl", '{"source": "a", "reference": 3}', "record 1"),
        ("p.jsonl", "{", "not valid JSON"),
        ("p.txt", "a\tb\n", r"read from \.tsv, \.csv and \.jsonl"),
        ("p.csv", "\n", "no pairs in it"),
        ("p.tsv", None, "No such file|cannot be read"),
    ],
)
def test_files_that_hold_no_pairs(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=says):
        read_pairs(tmp_path / name)


def test_two_files_of_parallel_lines(tmp_path):
    one, other = tmp_path / "en.txt", tmp_path / "si.txt"
    one.write_text("a\n\nb\n", encoding="utf-8")
    other.write_text("x\n\ny\n", encoding="utf-8")
    assert read_pairs(one, other) == [("a", "x"), ("b", "y")]
    other.write_text("x\n\n\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="line 3: the reference is empty"):
        read_pairs(one, other)
    other.write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"en\.txt has 3 lines and .*si\.txt 2"):
        read_pairs(one, other)


# The command


@pytest.fixture
def place(tmp_path, monkeypatch):
    save_decoder(tmp_path / "model")
    (tmp_path / "text.txt").write_text("\n".join(texts(5)), encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), encoding="utf-8")
    for name, side in (("en.txt", 0), ("si.txt", 1)):
        (tmp_path / name).write_text("".join(f"{pair[side]}\n" for pair in PAIRS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*more):
    return CliRunner().invoke(app, ["evaluate", "model", "--text", "text.txt", *map(str, more)])


def test_the_command_reports_chrf_of_a_table_and_of_parallel_files_alike(place):
    common = ("--examples", 2, "--sentences", 4, "--json")
    found = [run("--pairs", "pairs.tsv", *common), run("--bitext", "en.txt", "si.txt", *common)]
    assert [result.exit_code for result in found] == [0, 0], found[0].output
    table, parallel = (json.loads(result.stdout)["translation"] for result in found)
    assert table.keys() == {
        "chrf", "chrf_interval", "sentences", "tokens_per_sentence", "characters_per_step", "seconds", "signature"
    }  # fmt: skip
    assert table["sentences"] == 4
    assert {k: v for k, v in table.items() if k != "seconds"} == {k: v for k, v in parallel.items() if k != "seconds"}
    shown = run("--pairs", "pairs.tsv", *common[:-1])
    assert "Translation" in shown.stdout
    assert "translation" not in json.loads(run("--json").stdout)


def test_a_recipe_translates_too(place):
    recipe = "verb: evaluate\nmodel: model\ntext: text.txt\n{}\nexamples: 2\nsentences: 4\n"
    found = []
    for name, given in (("table", "pairs: pairs.tsv"), ("parallel", "bitext: [en.txt, si.txt]")):
        (place / f"{name}.yaml").write_text(recipe.format(given), encoding="utf-8")
        result = CliRunner().invoke(app, ["run", f"{name}.yaml", "--json"])
        assert result.exit_code == 0, result.output
        found.append(json.loads(result.stdout)["translation"]["chrf"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pairs", "absent.tsv"), "absent.tsv: the pairs cannot be read"),
        (("--pairs", "pairs.tsv", "--bitext", "en.txt", "si.txt"), "--pairs and --bitext are both given"),
        (("--bitext", "en.txt", "text.txt"), "en.txt has 30 lines and text.txt 5"),
        (("--pairs", "pairs.tsv", "--examples", 30), "30 pairs leave none to translate beside 30 examples"),
        (("--pairs", "pairs.tsv", "--template", "{source}"), "at its end, {reference}"),
    ],
)
def test_the_command_says_what_is_wrong_before_any_work(place, arguments, says):
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_dry_run_counts_what_would_be_translated(place):
    result = run("--pairs", "pairs.tsv", "--examples", 2, "--dry-run", "--json")
    assert json.loads(result.stdout)["would_translate"] == len(PAIRS) - 2
