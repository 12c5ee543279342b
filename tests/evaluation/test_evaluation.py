import math

import numpy as np
import pytest
import torch

from regraft.errors import CorpusError, EvaluationError, ParameterError
from regraft.evaluation import generation_speed, greedy_hits, joined, paired_difference, score_text
from regraft.evaluation.windows import plan_windows
from regraft.language import model as language_model
from regraft.language.model import LanguageModel, remembered_states
from toys.models import bert, gpt2, llama, texts, tokenizer, wordpiece

DOCUMENTS = texts(12)


def bits_by_loop(model, ids, first):
    """Bits of ids[first:], each from one forward pass over everything before it."""
    with torch.no_grad():
        return sum(
            -float(model(torch.tensor([ids[:i]])).logits[0, -1].double().log_softmax(-1)[ids[i]]) for i in range(first, len(ids))
        ) / math.log(2)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_bits_per_byte_equals_a_plain_loop(make):
    model, tok = make(), tokenizer()
    score = score_text(model, tok, DOCUMENTS)
    expected = [bits_by_loop(model, [tok.eos_token_id, *tok.encode(text)], 1) for text in DOCUMENTS]
    np.testing.assert_allclose(score.document_bits, expected, rtol=1e-5)
    assert score.document_bytes.tolist() == [len(text.encode()) for text in DOCUMENTS]
    assert score.tokens == sum(len(tok.encode(text)) for text in DOCUMENTS)
    assert score.bits_per_byte == pytest.approx(sum(expected) / sum(len(text.encode()) for text in DOCUMENTS), rel=1e-5)


def test_a_bos_that_the_tokenizer_adds_conditions_and_is_never_scored():
    model, tok = llama(), tokenizer(adds_bos=True)
    score = score_text(model, tok, DOCUMENTS)
    expected = [bits_by_loop(model, tok.encode(text), 1) for text in DOCUMENTS]
    assert tok.encode("a")[0] == tok.bos_token_id
    np.testing.assert_allclose(score.document_bits, expected, rtol=1e-5)


def test_without_separator_the_first_token_and_its_bytes_are_left_out():
    model, tok = llama(), tokenizer(separator=False)
    score = score_text(model, tok, DOCUMENTS)
    expected = [bits_by_loop(model, tok.encode(text), 1) for text in DOCUMENTS]
    first = [len(tok.decode(tok.encode(text)[:1]).encode()) for text in DOCUMENTS]
    np.testing.assert_allclose(score.document_bits, expected, rtol=1e-5)
    assert score.document_bytes.tolist() == [len(text.encode()) - n for text, n in zip(DOCUMENTS, first, strict=True)]


def test_a_first_character_of_several_tokens_is_left_out_whole():
    tok = tokenizer(separator=False)
    text = "\U0001f600 the cat"
    pieces = len(tok.encode("\U0001f600"))
    score = score_text(llama(), tok, [text])
    assert pieces == 4
    assert score.bytes == len(text.encode()) - 4
    assert score.tokens == len(tok.encode(text)) - pieces


def test_a_uniform_model_costs_log2_of_the_vocabulary_per_token():
    model, tok = llama(), tokenizer()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    score = score_text(model, tok, DOCUMENTS)
    size = sum(len(text.encode()) for text in DOCUMENTS)
    assert score.bits_per_byte == pytest.approx(math.log2(model.config.vocab_size) * score.tokens / size, rel=1e-6)
    assert score.tokens_per_byte == score.tokens / size


def test_batch_size_and_document_order_do_not_matter():
    model, tok = llama(), tokenizer()
    scores = [score_text(model, tok, DOCUMENTS, batch_tokens=n) for n in (1, 37, 10_000)]
    turned = score_text(model, tok, DOCUMENTS[::-1])
    for score in scores:
        np.testing.assert_allclose(score.document_bits, scores[0].document_bits, rtol=1e-5)
    np.testing.assert_allclose(turned.document_bits[::-1], scores[0].document_bits, rtol=1e-5)


def test_stride_does_not_matter_to_documents_that_fit_a_window():
    model, tok = llama(), tokenizer()
    scores = [score_text(model, tok, DOCUMENTS, window=128, stride=stride).document_bits for stride in (1, 64, 127)]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_a_long_document_gives_each_token_the_context_of_its_window():
    model, tok = llama(), tokenizer()
    text = " ".join(DOCUMENTS)
    ids, bos = tok.encode(text), tok.eos_token_id
    score = score_text(model, tok, [text], window=33, stride=8)
    expected = bits_by_loop(model, [bos, *ids[:32]], 1)
    for start in range(8, len(ids) - 24, 8):
        window = [bos, *ids[start : start + 32]]
        expected += bits_by_loop(model, window, 25)
    assert score.document_bits[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("size", "stride", "skip"), [(5, 1, 0), (5, 5, 0), (7, 3, 1), (100, 50, 2)])
def test_windows_score_every_token_once(size, stride, skip):
    lengths = [0, 1, 4, 5, 6, 23]
    windows = list(plan_windows(lengths, [min(skip, n) for n in lengths], size, stride))
    for document, length in enumerate(lengths):
        scored = [i for w in windows if w.document == document for i in range(w.first, w.end)]
        assert scored == list(range(min(skip, length), length))
    assert all(0 < w.end - w.start <= size and w.start <= w.first for w in windows)


def test_logits_from_the_split_model_equal_the_models_own():
    for model, tok in ((llama(), tokenizer()), (gpt2(), tokenizer()), (bert(), wordpiece())):
        model.set_attn_implementation("eager")  # what short sequences meet
        language_model = LanguageModel(model.eval(), tok)
        ids = torch.randint(5, 50, (2, 9))
        with torch.no_grad():
            states = language_model.hidden(ids)
            # the same product in another shape: it may be added up in another order
            torch.testing.assert_close(language_model.logits(states.reshape(18, -1)), model(ids).logits.reshape(18, -1))
        assert "forward" not in model.base_model.__dict__


def test_short_sequences_meet_plain_attention_and_the_models_own_is_put_back():
    model = llama().eval()
    model.set_attn_implementation("sdpa")
    language_model, met = LanguageModel(model, tokenizer()), []
    watch = model.base_model.layers[0].register_forward_pre_hook(lambda *_: met.append(model.config._attn_implementation))
    with torch.no_grad():
        for length in (9, 300):
            ids, mask = torch.randint(5, 50, (2, length)), torch.ones(2, length, dtype=torch.long)
            mask[1, -4:] = 0
            found, expected = language_model.hidden(ids, mask), model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
            torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], rtol=1e-5, atol=1e-6)
    watch.remove()
    assert met == ["eager", "sdpa", "sdpa", "sdpa"]
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("masking", ["token", "word"])
def test_pseudo_likelihood_equals_a_plain_loop(masking):
    model, tok = bert().eval(), wordpiece()
    documents = ["The cat sat", "a hat and a caterpillar", "Rat"]
    score = score_text(model, tok, documents, masking=masking, batch_tokens=40)
    expected = []
    for text in documents:
        encoded = tok(text)
        ids, words = encoded["input_ids"], encoded.word_ids()
        bits = 0.0
        for i in range(1, len(ids) - 1):
            hidden = [
                tok.mask_token_id if j == i or (masking == "word" and j > i and words[j] == words[i]) else t for j, t in enumerate(ids)
            ]
            with torch.no_grad():
                bits -= float(model(torch.tensor([hidden])).logits[0, i].double().log_softmax(-1)[ids[i]]) / math.log(2)
        expected.append(bits)
    np.testing.assert_allclose(score.document_bits, expected, rtol=1e-5)
    assert score.document_bytes.tolist() == [11, 23, 3]  # bytes of the text as given, though the tokenizer lower-cases it
    assert score.measure == "pseudo-likelihood"
    assert len(tok.tokenize("caterpillar")) > 1


def test_sampled_pseudo_likelihood_is_seeded_and_close():
    model, tok = bert(), wordpiece()
    documents = DOCUMENTS * 3
    whole = score_text(model, tok, documents, sample=1.0)
    parts = [score_text(model, tok, documents, sample=0.4, seed=seed) for seed in (1, 1, 2)]
    assert parts[0].bits_per_byte == parts[1].bits_per_byte != parts[2].bits_per_byte
    assert parts[0].bits_per_byte == pytest.approx(whole.bits_per_byte, rel=0.05)
    assert 0.35 < parts[0].sampled < 0.5
    assert whole.sampled == 1.0


def test_long_documents_of_a_masked_model_are_read_through_a_centered_window():
    model, tok = bert().eval(), wordpiece()
    text = " ".join(DOCUMENTS)
    ids = tok.encode(text, add_special_tokens=False)
    score = score_text(model, tok, [text], window=12, sample=1.0, masking="token")
    bits = 0.0
    for i, target in enumerate(ids):
        start = max(0, min(i - 5, len(ids) - 10))
        row = [tok.cls_token_id, *ids[start : start + 10], tok.sep_token_id]
        row[i - start + 1] = tok.mask_token_id
        with torch.no_grad():
            bits -= float(model(torch.tensor([row])).logits[0, i - start + 1].double().log_softmax(-1)[target]) / math.log(2)
    assert score.document_bits[0] == pytest.approx(bits, rel=1e-5)


def test_models_that_cannot_score_say_what_is_possible():
    tok = wordpiece()
    with pytest.raises(EvaluationError, match=r"BertModel has no language-model head.*tokens per byte"):
        score_text(bert().bert, tok, ["a cat"])
    with pytest.raises(EvaluationError, match=r"token \d+ \(.*\), but the model has 20 rows"):
        score_text(llama(rows=20), tokenizer(), ["a cat"])


@pytest.mark.parametrize("documents", [[], [""], "a bare string"])
def test_nothing_to_score(documents):
    with pytest.raises(CorpusError, match="nothing to score"):
        score_text(llama(), tokenizer(), documents)


def test_lone_surrogates_are_refused_with_their_position():
    with pytest.raises(CorpusError, match="document 1 holds a lone surrogate at character 2"):
        score_text(llama(), tokenizer(), ["fine", "ab\ud800"])


def test_a_stride_outside_its_window_is_refused():
    with pytest.raises(ParameterError, match="stride=64"):
        score_text(llama(), tokenizer(), ["a cat"], window=32, stride=64)


def test_empty_documents_among_others_cost_nothing():
    model, tok = llama(), tokenizer()
    score = score_text(model, tok, ["", "the cat sat", ""])
    assert score.document_bits[0] == score.document_bits[2] == 0
    assert score.bits_per_byte == pytest.approx(score_text(model, tok, ["the cat sat"]).bits_per_byte, rel=1e-6)


def test_words_keep_their_combining_marks():
    score = score_text(llama(), tokenizer(), ["हिन्दी में the cat"])
    assert score.words == 4


def test_interval_holds_the_estimate_and_repeats():
    score = score_text(llama(), tokenizer(), DOCUMENTS)
    low, high = score.interval(seed=3)
    assert (low, high) == score.interval(seed=3)
    assert low < score.bits_per_byte < high


def test_paired_difference_cancels_what_documents_share():
    tok = tokenizer()
    a, b = score_text(llama(0), tok, DOCUMENTS), score_text(llama(1), tok, DOCUMENTS)
    assert paired_difference(a, a) == (0.0, 0.0, 0.0)
    difference, low, high = paired_difference(a, b)
    assert difference == a.bits_per_byte - b.bits_per_byte
    assert low <= difference <= high
    assert high - low < (a.interval()[1] - a.interval()[0]) + (b.interval()[1] - b.interval()[0])
    with pytest.raises(EvaluationError, match="different documents"):
        paired_difference(a, score_text(llama(), tok, DOCUMENTS[:-1]))


def test_scores_of_two_halves_are_the_score_of_the_whole():
    model, tok = llama(), tokenizer()
    whole, halves = (
        score_text(model, tok, DOCUMENTS),
        joined([score_text(model, tok, DOCUMENTS[:5]), score_text(model, tok, DOCUMENTS[5:])]),
    )
    np.testing.assert_allclose(halves.document_bits, whole.document_bits, rtol=1e-6)
    for name in ("tokens", "words", "text_bytes", "text_tokens", "unknown", "measure", "sampled", "bytes"):
        assert getattr(halves, name) == getattr(whole, name)
    np.testing.assert_array_equal(halves.document_bytes, whole.document_bytes)


def test_remembered_states_serve_another_head(monkeypatch):
    model, tok = llama(tied=False), tokenizer()
    kept = {}
    with remembered_states(model, kept):
        first = score_text(model, tok, DOCUMENTS)
    assert first.bits_per_byte == score_text(model, tok, DOCUMENTS).bits_per_byte
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.5)
    expected = score_text(model, tok, DOCUMENTS)
    reads = []
    monkeypatch.setattr(type(model.base_model), "forward", lambda *given, **named: reads.append(1))
    with remembered_states(model, kept):
        again = score_text(model, tok, DOCUMENTS)
    assert not reads
    np.testing.assert_array_equal(again.document_bits, expected.document_bits)
    assert again.bits_per_byte != first.bits_per_byte


def test_states_beyond_the_limit_are_computed_again(monkeypatch):
    monkeypatch.setattr(language_model, "KEPT_BYTES", 0)
    kept, model, tok = {}, llama(), tokenizer()
    with remembered_states(model, kept):
        scores = [score_text(model, tok, DOCUMENTS).bits_per_byte for _ in range(2)]
    assert not kept
    assert scores[0] == scores[1]


def test_greedy_hits_count_wins_and_leave_ties_to_the_old():
    model, tok = llama(tied=False), tokenizer()
    used = {i for text in DOCUMENTS for i in tok.encode(text)} | {tok.eos_token_id}
    spare = list(range(len(tok), len(tok) + 3))
    assert used.isdisjoint(spare)
    positions = sum(len(tok.encode(text)) + 1 for text in DOCUMENTS)
    with torch.no_grad():
        weight = model.lm_head.weight
        weight[spare] = 0
        old = [i for i in range(model.config.vocab_size) if i not in spare]
        below = greedy_hits(model, tok, DOCUMENTS, spare)
        assert below.positions == positions  # every prediction, that after the last token too
        assert below.hits == 0  # a zero logit never beats the best of hundreds of random ones
        weight[spare[0]] = weight[old].mean(0)
        assert greedy_hits(model, tok, DOCUMENTS, spare).hits == 0  # inside the hull
        favorite = int(torch.tensor([model(torch.tensor([[tok.eos_token_id]])).logits[0, -1, old].argmax()])[0])
        weight[spare[0]] = weight[old[favorite]]
        copied = greedy_hits(model, tok, DOCUMENTS, spare)
        assert copied.hits == 0
        assert copied.ties >= len(DOCUMENTS)  # at least where it is the favorite: after the separator
        weight[spare[0]] = 2 * weight[old[favorite]]
        doubled = greedy_hits(model, tok, DOCUMENTS, spare)
        assert doubled.hits >= copied.ties
        assert doubled.ties == 0


def test_documents_that_hold_a_new_token_are_skipped():
    tok = tokenizer()
    new = tok.encode("cat")[0]
    hits = greedy_hits(llama(), tok, ["cat", "xyz"], [new])
    assert hits.skipped == 1
    assert hits.positions == len(tok.encode("xyz")) + 1


def test_generation_follows_the_text_or_the_model():
    model, tok = llama().eval(), tokenizer()
    text = DOCUMENTS[0]
    ids = tok.encode(text)
    followed = generation_speed(model, tok, [text], new_tokens=5, prompt_tokens=4)
    assert (followed.tokens, followed.bytes) == (5, len(tok.decode(ids[4:9]).encode()))
    assert followed.characters == len(tok.decode(ids[4:9]))
    prompt = torch.tensor([[tok.eos_token_id, *ids[:4]]])
    expected = model.generate(prompt, max_new_tokens=5, min_new_tokens=5, do_sample=False, suppress_tokens=[])[0, 5:]
    free = generation_speed(model, tok, [text], new_tokens=5, prompt_tokens=4, follow=False)
    assert free.bytes == len(tok.decode(expected, skip_special_tokens=True).encode())
    assert free.seconds > 0


def test_a_step_is_counted_in_bytes_and_in_characters():
    model, tok = llama().eval(), tokenizer()
    speed = generation_speed(model, tok, ["a cat" + "ệ" * 20], new_tokens=30, prompt_tokens=len(tok.encode("a cat")))
    assert speed.to_dict().keys() == {"bytes_written_per_second", "bytes_per_step", "characters_per_step"}
    assert speed.characters_per_step == pytest.approx(speed.bytes_per_step / 3) == pytest.approx(1 / 3)


def test_tokens_per_document_are_those_of_the_whole_text():
    tok = tokenizer()
    score = score_text(llama(), tok, DOCUMENTS)
    counts = [len(tok.encode(text)) for text in DOCUMENTS]
    assert score.tokens_per_document == pytest.approx(sum(counts) / len(counts))
    assert score.to_dict()["tokens_per_document"] == score.tokens_per_document


def test_scoring_leaves_the_model_as_it_was():
    model = llama().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    score_text(model, tokenizer(), ["a cat"])
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
