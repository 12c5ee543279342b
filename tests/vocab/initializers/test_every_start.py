"""Every start on every kind of model: {decoder, encoder, encoder-decoder} x {tied, untied} x {extend, replace}, none left out unsaid.

A decoder with an output bias is an untied kind of its own; the other tokenizer of "replace" has its special tokens at other ids.

A start that needs something (text, a model that speaks, a donor, vectors, parallel text, an ontology) is given it in miniature. A cell that
a start refuses is in `REFUSED` with the error it must give.
"""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
import transformers

from regraft.checkpoint import write
from regraft.errors import ParameterError
from regraft.evaluation import pseudo_likelihood
from regraft.graft import ORIGINS
from regraft.language.loading import load_model
from regraft.method import list_methods, resolve
from regraft.tokenizer import Tokenizer
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.initializers import auto
from regraft.vocab.transplant.installed import install
from regraft.vocab.transplant.transplant import transplant
from toys.clock import count_looks
from toys.starts import METHODS, MODELS, SETTINGS, D, change_of, context_of, old_tokenizer, texts

# (method, kind of model, tied or not; None: either) -> why it says no
REFUSED = {
    ("token-distillation", "encoder-decoder", None): (
        ParameterError,
        "learns from the model itself, and this checkpoint has no language-model head",
    ),
}


@pytest.fixture(autouse=True)
def _quick_scores(monkeypatch):
    """`auto` scores 12,000 bytes of text, a masked model with 4,000 tokens of it, and learns by the clock; none of it is tested here."""
    monkeypatch.setattr(pseudo_likelihood, "AFFORDABLE", 40)
    within = auto.within
    monkeypatch.setattr(auto, "within", lambda texts, most=600: within(texts, min(most, 600)))
    count_looks(monkeypatch)


def refusal(method, kind, tied):
    return REFUSED.get((method, kind, tied)) or REFUSED.get((method, kind, None))


CELLS = [(method, kind, tied, how) for method in METHODS for kind, tied in MODELS for how in ("extend", "replace")]


@pytest.fixture(scope="module")
def loaded(checkpoints):
    """A fresh model of a kind, as `load_model` gives it: loaded once, copied at each call."""
    models = {key: load_model(checkpoint) for key, checkpoint in checkpoints.items()}
    return lambda kind, tied: deepcopy(models[kind, tied])


@pytest.mark.parametrize(("method", "kind", "tied", "how"), CELLS)
def test_every_start_on_every_kind_of_model(checkpoints, loaded, aids, tmp_path, method, kind, tied, how):
    checkpoint, old, change = checkpoints[kind, tied], old_tokenizer(), change_of(how)
    initializer = resolve("initializer", method, SETTINGS.get(method, {}))
    start = partial(transplant, checkpoint, old, change, initializer, context_of(checkpoint, aids, how, method))
    if (refused := refusal(method, kind, tied)) is not None:
        with pytest.raises(refused[0], match=refused[1]):
            start()
        return
    result = start()
    check_rows(checkpoint, old, change, result)
    check_head(checkpoint, old, change, result, initializer, tied)
    check_files(checkpoint, change, result, loaded(kind, tied), tmp_path / "out")


def check_rows(checkpoint, old, change, result):
    """Copied rows are the old ones bit for bit, new ones are numbers, rows of padding the mean."""
    layout, vocab = checkpoint.layout, len(change.source_ids)
    kept, new = np.flatnonzero(change.source_ids >= 0), torch.from_numpy(change.new_ids)
    assert len(new) >= 20
    for table, name in ((result.input, layout.input[0]), (result.head, (layout.head or ("",))[0])):
        if table is None:
            continue
        stored = checkpoint.read(name)
        assert torch.equal(table[torch.from_numpy(kept)], stored[torch.from_numpy(change.source_ids[kept])])
        assert torch.isfinite(table).all()
        assert table.dtype == stored.dtype
        torch.testing.assert_close(table[vocab:], stored[: old.vocab_size].mean(0).expand(len(table) - vocab, -1))
        assert table[new].std() < 20 * stored.std()
    if result.bias is not None:
        stored = checkpoint.read(layout.bias[0]).reshape(-1)
        assert torch.equal(result.bias[torch.from_numpy(kept)], stored[torch.from_numpy(change.source_ids[kept])])
        assert torch.isfinite(result.bias).all()
    counts = result.origin_counts()
    assert counts["copied"] == len(kept)
    assert sum(counts.values()) == len(kept) + len(new)
    assert {ORIGINS[code] for code in result.origins[change.new_ids]} <= {"combined", "sampled", "learned"}


def check_head(checkpoint, old, change, result, initializer, tied):
    """An untied head has rows of its own, made from its own table; rows inside the hull never outrank all old ones."""
    assert (result.head is None) == tied
    new = torch.from_numpy(change.new_ids)
    if not tied:
        assert not torch.equal(result.head[new], result.input[new])
    head = result.input if tied else result.head
    if result.graft is not None and not initializer.separate_head and not tied:
        stored = checkpoint.read(checkpoint.layout.head[0])
        torch.testing.assert_close(head[new], result.graft.apply(stored[: old.vocab_size]), rtol=1e-6, atol=1e-6)
    if result.certificate is not None and result.certificate.inside == 1.0:
        stored = checkpoint.read((checkpoint.layout.input if tied else checkpoint.layout.head)[0])[: old.vocab_size]
        states = torch.randn(200, D, generator=torch.Generator().manual_seed(2))
        old_bias, bias = torch.zeros(old.vocab_size), torch.zeros(len(head))
        if result.bias is not None:
            old_bias, bias = checkpoint.read(checkpoint.layout.bias[0]).reshape(-1)[: old.vocab_size], result.bias
        best = (states @ stored.T + old_bias).amax(1)
        assert ((states @ head[new].T + bias[new]).amax(1) <= best + 1e-4).all()


def check_files(checkpoint, change, result, in_memory, out):
    """Plain transformers opens what is written, as tied as it was, and computes what the model in memory does."""
    write(checkpoint, out, tensors=result.tensors, extra=change.tokenizer.save)
    model, info = getattr(transformers, checkpoint.config["architectures"][0]).from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    model.eval()
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    assert torch.equal(table, result.input)
    assert (head.weight is table) == (result.head is None)
    assert torch.equal(head.weight, result.input if result.head is None else result.head)
    install(in_memory, result)
    ids = torch.from_numpy(change.new_ids[:12]).unsqueeze(0)
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
    with torch.no_grad():
        here, there = in_memory(**inputs).logits, model(**inputs).logits
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
    again = Tokenizer.from_directory(out)
    assert again.encode(texts("extend")[0]) == change.tokenizer.encode(texts("extend")[0])


def test_the_table_has_a_row_for_every_start_and_no_stale_exception():
    assert {method for method, *_ in CELLS} == {cls.name for cls in list_methods("initializer")}
    assert len(CELLS) == 14 * len(METHODS)
    assert {method for method, *_ in REFUSED} <= set(METHODS)
    assert set(SETTINGS) <= set(METHODS)


@pytest.mark.parametrize("method", [cls.name for cls in list_methods("initializer") if cls.needs and cls.name != "auto"])
def test_without_what_it_needs_it_says_which_option_to_give(checkpoints, method):
    """`auto` alone does with what it gets."""
    change, old = change_of("extend"), old_tokenizer()
    checkpoint = checkpoints["decoder", True]
    table = checkpoint.read(checkpoint.layout.input[0])[: old.vocab_size]
    target = Target(change.new_ids, change.tokenizer, change.source_ids, old)
    initializer = resolve("initializer", method, SETTINGS.get(method, {}))
    with pytest.raises(ParameterError, match=r"needs (text|--[a-z-]+)|learns from the model itself") as caught:
        initializer(Source(table, old), target, Context())
    needs = type(initializer).needs
    assert any(f"--{need.replace('_', '-')}" in str(caught.value) or need in ("text", "model") for need in needs)
