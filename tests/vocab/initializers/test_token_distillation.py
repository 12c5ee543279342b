"""Token distillation: passages from a corpus and from the model itself, rows learned anew in place, and what must not move."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from regraft.checkpoint import Checkpoint
from regraft.corpus import Corpus
from regraft.errors import CorpusError, EvaluationError, ParameterError, TokenizerError
from regraft.graft import ORIGINS, Graft
from regraft.method import resolve
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer
from regraft.vocab.change import extend
from regraft.vocab.change.trim import trim
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.initializers.constituent_mean import ConstituentMean
from regraft.vocab.initializers.token_distillation import TokenDistillation
from regraft.vocab.initializers.token_distillation.generated import write_passages
from regraft.vocab.initializers.token_distillation.method import replacing
from regraft.vocab.initializers.token_distillation.pairing import passages
from regraft.vocab.initializers.token_distillation.student import Student, Teacher
from regraft.vocab.transplant.transplant import transplant
from toys import models as tiny_models

TEXTS = [f"{text} flumzor quixzor" for text in tiny_models.texts(60, seed=2)]
FAST = {"snippets": 6, "length": 12, "batch_size": 4, "minutes": None}


@pytest.fixture(scope="module")
def old():
    return Tokenizer.from_spec(json.loads(tiny_models.tokenizer().backend_tokenizer.to_str()), named())


@pytest.fixture
def shallow(monkeypatch):
    """Two layers are enough to learn from, where many steps are taken."""
    monkeypatch.setattr(tiny_models, "llama", partial(tiny_models.llama, layers=2))


def named():
    return {"tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>"}).encode()}


@pytest.fixture(scope="module")
def change(old):
    found = extend(old, TEXTS, 12)
    assert len(found.new_ids) == 12
    return found


def target_of(old, change):
    return Target(change.new_ids, change.tokenizer, change.source_ids, old)


def context(old, tied=True, texts=TEXTS, seed=0):
    corpus = None if texts is None else Corpus.from_texts(texts, held_out=0)
    return Context(corpus=corpus, seed=seed, load_model=lambda: (tiny_models.llama(tied=tied), load_tokenizer(old)))


def source_of(old, tied=True, role="input"):
    model = tiny_models.llama(tied=tied)
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    return Source(table=(head if role == "head" else table).detach()[: old.vocab_size], tokenizer=old, role=role, tied=tied)


def written(old, change, wanted, length=12, seed=0, aim=None):
    aim = aim or target_of(old, change)
    return list(write_passages(tiny_models.llama(), load_tokenizer(old), aim, wanted, length, temperature=1.0, seed=seed))


class TestWritten:
    def test_each_begins_with_a_token_in_its_old_spelling_and_is_paired_token_by_token(self, old, change):
        target = target_of(old, change)
        pieces = dict(zip(target.ids.tolist(), target.pieces, strict=True))
        found = written(old, change, dict.fromkeys(target.ids.tolist(), 5))
        assert len(found) > 50
        for passage in found:
            token = int(passage.new[0])
            count = len(pieces[token])
            assert passage.old[:count].tolist() == pieces[token]
            assert change.source_ids[passage.new[1:]].tolist() == passage.old[count:].tolist()
            assert 1 + len(pieces[token]) <= len(passage.old) <= 12
            assert len(passage.new) == len(passage.new_at) == len(passage.old_at)
            # both read the same bytes up to each pair of positions
            for at_old, at_new in zip(passage.old_at, passage.new_at, strict=True):
                ends = [
                    b"".join(t.surface(int(i)) for i in ids)
                    for t, ids in ((old, passage.old[: at_old + 1]), (change.tokenizer, passage.new[: at_new + 1]))
                ]
                assert ends[0] == ends[1]

    def test_as_many_as_wanted_and_never_past_the_end_of_a_document(self, old, change):
        first, second = change.new_ids[:2].tolist()
        found = written(old, change, {first: 7, second: 3}, length=30)
        counts = {token: sum(int(p.new[0]) == token for p in found) for token in (first, second)}
        assert counts[first] <= 7
        assert counts[second] <= 3
        assert sum(counts.values()) == len(found) >= 8
        assert all(old.vocab["<eos>"] not in p.old for p in found)

    def test_the_seed_decides(self, old, change):
        wanted = {int(change.new_ids[0]): 8}
        once, again, other = (written(old, change, wanted, seed=seed) for seed in (1, 1, 2))
        assert [p.old.tolist() for p in once] == [p.old.tolist() for p in again]
        assert [p.old.tolist() for p in once] != [p.old.tolist() for p in other]

    def test_the_callers_randomness_is_left_alone(self, old, change):
        model, wanted = tiny_models.llama(), {int(change.new_ids[0]): 2}
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        assert list(write_passages(model, load_tokenizer(old), target_of(old, change), wanted, 12, temperature=1.0, seed=0))
        assert torch.equal(torch.rand(1), expected)

    def test_they_end_before_what_the_new_vocabulary_lacks(self, old, change):
        source_ids = change.source_ids.copy()
        lacking = np.arange(150, 290)
        source_ids[np.isin(source_ids, lacking)] = -1
        aim = Target(change.new_ids, change.tokenizer, source_ids, old)
        found = written(old, change, dict.fromkeys(change.new_ids.tolist(), 10), aim=aim)
        for passage in found:
            rest = passage.old[int(passage.old_at[0]) + 1 :]
            assert not set(rest.tolist()) & set(lacking.tolist())

    def test_a_token_without_room_for_a_continuation_gets_none(self, old, change):
        longest = max(map(len, target_of(old, change).pieces))
        found = written(old, change, dict.fromkeys(change.new_ids.tolist(), 3), length=longest)
        lengths = dict(zip(change.new_ids.tolist(), map(len, target_of(old, change).pieces), strict=True))
        assert {int(p.new[0]) for p in found} <= {token for token, count in lengths.items() if count < longest}

    def test_encoders_do_not_write(self, old, change):
        with pytest.raises(ParameterError, match="does not write text"):
            list(write_passages(tiny_models.bert(), tiny_models.wordpiece(), target_of(old, change), {}, 12, temperature=1.0, seed=0))


class TestLearning:
    def distance(self, old, change, rows, head=None):
        """Mean squared distance of the student's states from the teacher's, on passages from the corpus."""
        start = ConstituentMean()(source_of(old), target_of(old, change), Context())
        student = Student(tiny_models.llama(), load_tokenizer(old), target_of(old, change), start)
        with torch.no_grad():
            student.model.get_input_embeddings().weight[student.columns :] = rows
            total = count = 0.0
            for p in passages(target_of(old, change), TEXTS[:20], 12):
                there, here = student.hidden([p.old])[0][p.old_at], student.hidden([student.places[p.new]])[0][p.new_at]
                total, count = total + float((there - here).square().sum()), count + there.numel()
        return total / count

    @pytest.mark.parametrize("where", ["corpus", "model", "both"])
    def test_rows_come_nearer_to_what_the_old_spelling_left(self, old, change, where, shallow):
        start = ConstituentMean()(source_of(old), target_of(old, change), Context()).apply(source_of(old).table)
        method = TokenDistillation(**FAST, snippets_from=where, lr=0.02, epochs=8)
        rows = method(source_of(old), target_of(old, change), context(old, texts=None if where == "model" else TEXTS))
        assert rows.values.shape == start.shape
        assert len(rows.replaced) == 0
        assert self.distance(old, change, rows.values) < 0.9 * self.distance(old, change, start)

    @pytest.mark.parametrize("loss", ["logits-mse", "logits-kl"])
    def test_logits_may_be_compared_and_their_distance_falls(self, old, change, loss, shallow):
        method = TokenDistillation(**FAST, loss=loss, lr=0.02, epochs=8)
        rows = method(source_of(old), target_of(old, change), context(old)).values
        start = ConstituentMean()(source_of(old), target_of(old, change), Context())

        def far(values):
            student = Student(tiny_models.llama(), load_tokenizer(old), target_of(old, change), start)
            with torch.no_grad():
                student.model.get_input_embeddings().weight[student.columns :] = values
                found = list(passages(target_of(old, change), TEXTS[:20], 12))
                pairs = [(student.hidden([p.old])[0][p.old_at], student.hidden([student.places[p.new]])[0][p.new_at]) for p in found]
                return float(method.distance(student, *(torch.cat(side) for side in zip(*pairs, strict=True))))

        assert far(rows) < 0.9 * far(start.apply(source_of(old).table))

    def test_distances_are_what_their_names_say(self, old, change):
        start = ConstituentMean()(source_of(old), target_of(old, change), Context())
        student = Student(tiny_models.llama(), load_tokenizer(old), target_of(old, change), start)
        student.hidden([np.array([5, 6])])
        there, here = torch.randn(5, 16), torch.randn(5, 16)
        head = student.model.get_output_embeddings().weight.detach()[: old.vocab_size]
        p, q = (torch.softmax(states @ head.T, 1) for states in (there, here))
        expected = {
            "hidden-mse": (there - here).square().mean(),
            "logits-mse": ((there - here) @ head.T).square().mean(),
            "logits-kl": (p * (p.log() - q.log())).sum(1).mean(),
        }
        for loss, value in expected.items():
            method = TokenDistillation(loss=loss)
            torch.testing.assert_close(method.distance(student, there, here), value, rtol=1e-4, atol=1e-6)
            assert method.distance(student, there, there).abs() < 1e-6

    def test_a_teacher_that_keeps_what_it_read_says_the_same_and_reads_each_passage_once(self, old, change, monkeypatch):
        start = ConstituentMean()(source_of(old), target_of(old, change), Context())
        student = Student(tiny_models.llama(), load_tokenizer(old), target_of(old, change), start)
        found = list(passages(target_of(old, change), TEXTS[:20], 12))[:6]
        expected = Teacher(student)(found)
        keeping, read = Teacher(student, keep=True), []
        hidden = student.hidden
        monkeypatch.setattr(student, "hidden", lambda sequences, layer: read.append(len(sequences)) or hidden(sequences, layer))
        for batch in (found[:4], found, found[::-1][:2]):
            keeping(batch)
        assert read == [4, 2]
        torch.testing.assert_close(keeping(found), expected, rtol=1e-4, atol=1e-5)
        assert not keeping(found).is_inference()  # it takes part in a loss

        monkeypatch.setattr("regraft.vocab.initializers.token_distillation.student.KEPT", keeping(found[:1]).nbytes)
        full, sizes = Teacher(student, keep=True), len(read)
        full(found[:1])
        full(found)
        full(found)
        assert read[sizes:] == [1, 5, 5]  # the first fills the room; the others are read again

    def test_another_layer_gives_other_rows_and_an_untied_head_still_learns(self, old, change):
        rows = {}
        for layer in (-1, -2):
            method, aids = TokenDistillation(**FAST, layer=layer, lr=0.01), context(old, tied=False)
            rows[layer] = method(source_of(old, tied=False), target_of(old, change), aids).values
            head = source_of(old, False, "head")
            learned = method(head, target_of(old, change), aids).values
            assert not torch.allclose(learned, ConstituentMean()(head, target_of(old, change), Context()).apply(head.table), atol=1e-6)
        assert not torch.allclose(rows[-1], rows[-2], atol=1e-4)

    def test_a_layer_is_one_of_the_models_and_goes_with_hidden_states(self, old, change):
        with pytest.raises(EvaluationError, match="layer 9: LlamaForCausalLM has hidden states 0 to 5"):
            TokenDistillation(**FAST, layer=9)(source_of(old), target_of(old, change), context(old))
        with pytest.raises(ParameterError, match="layer=-2 goes with loss=hidden-mse"):
            TokenDistillation(**FAST, layer=-2, loss="logits-kl")(source_of(old), target_of(old, change), context(old))

    def test_the_model_writes_only_what_the_corpus_lacks(self, old, change, monkeypatch):
        asked = {}

        def spy(model, tokenizer, target, wanted, *args, **options):
            asked.update(wanted)
            return iter(())

        monkeypatch.setattr("regraft.vocab.initializers.token_distillation.method.write_passages", spy)
        rare = [*TEXTS[:2], *[text.replace("flumzor", "").replace("quixzor", "") for text in TEXTS[2:]]]
        TokenDistillation(**FAST, snippets_from="both")(source_of(old), target_of(old, change), context(old, texts=rare))
        assert set(asked) == set(change.new_ids.tolist())
        assert max(asked.values()) <= FAST["snippets"]
        assert min(asked.values()) >= 0
        assert asked[int(change.tokenizer.encode("a flumzor")[-1])] >= FAST["snippets"] - 2

    def test_a_corpus_that_shows_nothing_is_refused_and_says_what_else_would_do(self, old, change):
        with pytest.raises(CorpusError, match="snippets_from=both"):
            TokenDistillation(**FAST)(source_of(old), target_of(old, change), context(old, texts=["the cat sat"]))

    def test_an_encoder_decoder_is_refused(self, old, change):
        model = transformers.BartForConditionalGeneration(
            transformers.BartConfig(vocab_size=304, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                                    decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64)
        )  # fmt: skip
        aids = Context(corpus=Corpus.from_texts(TEXTS, held_out=0), load_model=lambda: (model, load_tokenizer(old)))
        with pytest.raises(EvaluationError, match="encoder-decoder"):
            TokenDistillation(**FAST)(source_of(old), target_of(old, change), aids)

    @pytest.mark.parametrize("head", ["ce", "start", "zero"])
    def test_head_rows_of_an_untied_model(self, old, change, head):
        method, aids = TokenDistillation(**FAST, head=head, lr=0.01), context(old, tied=False)
        method(source_of(old, tied=False), target_of(old, change), aids)
        rows = method(source_of(old, False, "head"), target_of(old, change), aids).values
        start = ConstituentMean()(source_of(old, False, "head"), target_of(old, change), Context()).apply(
            source_of(old, False, "head").table
        )
        if head == "zero":
            assert not rows.any()
        else:
            assert torch.allclose(rows, start, atol=1e-6) == (head == "start")

    def test_a_masked_model_has_no_next_token_to_learn_from(self, old, change):
        def load():
            torch.manual_seed(0)
            sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
            config = transformers.BertConfig(vocab_size=304, **sizes, max_position_embeddings=64, tie_word_embeddings=False)
            return transformers.BertForMaskedLM(config).eval(), load_tokenizer(old)

        model = load()[0]
        table, head = (t.weight.detach()[: old.vocab_size] for t in (model.get_input_embeddings(), model.get_output_embeddings()))
        aids = Context(corpus=Corpus.from_texts(TEXTS, held_out=0), load_model=load)
        method = TokenDistillation(**FAST, lr=0.01)
        rows = method(Source(table, old, tied=False), target_of(old, change), aids).values
        head_rows = method(Source(head, old, role="head", tied=False), target_of(old, change), aids).values
        start = ConstituentMean()(Source(table, old), target_of(old, change), Context())
        assert not torch.allclose(rows, start.apply(table), atol=1e-4)
        assert torch.equal(head_rows, start.apply(head))
        with pytest.raises(ParameterError, match="BertForMaskedLM does not predict"):
            TokenDistillation(**FAST, ce=True)(Source(table, old), target_of(old, change), aids)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"snippets_from": "web"}, "snippets_from='web' is not accepted"),
            ({"temperature": 0}, "temperature=0"),
            ({"replace_ids": [-1]}, "replace_ids"),
            ({"replace_ids": "all"}, "replace_ids"),
            ({"head": "mean"}, "head='mean'"),
        ],
    )
    def test_bad_settings_are_refused_by_name(self, settings, message):
        with pytest.raises(ParameterError, match=message):
            resolve("initializer", "token-distillation", settings)


@pytest.mark.parametrize(("given", "ids"), [([5, 17], (5, 17)), ("5, 17", (5, 17)), ("5,17", (5, 17)), (5, (5,)), ("5", (5,)), ("", None)])
def test_ids_may_be_written_plainly(given, ids):
    if ids is None:
        with pytest.raises(ParameterError, match="replace_ids"):
            resolve("initializer", "token-distillation", {"replace_ids": given})
    else:
        assert resolve("initializer", "token-distillation", {"replace_ids": given}).replace_ids == ids


class TestReplacing:
    @pytest.fixture(scope="class")
    def checkpoint(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("model")
        tiny_models.llama().save_pretrained(folder)
        return Checkpoint.open(folder)

    def word(self, old, text=" cat"):
        ids = old.encode(f"a{text}")
        assert len(ids) == 2
        return ids[1]

    def test_named_old_rows_are_learned_anew_and_no_other_moves(self, old, change, checkpoint):
        cat = self.word(old)
        mat = next(i for i in old.encode(TEXTS[0]) if len(old.surface(i)) > 3 and i != cat)
        method = TokenDistillation(**FAST, replace_ids=(cat, mat), lr=0.02)
        result = transplant(checkpoint, old, change, method, context(old))
        before = load_file(checkpoint.path / "model.safetensors")["model.embed_tokens.weight"]
        moved = (result.input[: old.vocab_size] != before[: old.vocab_size]).any(1).nonzero().flatten().tolist()
        assert moved == sorted([cat, mat])
        assert [ORIGINS[result.origins[i]] for i in (cat, mat, cat + 1)] == ["learned", "learned", "copied"]
        assert result.new_ids.tolist() == change.new_ids.tolist()

    def test_they_start_from_the_other_spelling_of_their_bytes(self, old, change):
        cat = self.word(old)
        aim = replacing(target_of(old, change), np.array([cat]))
        assert aim.ids.tolist() == [*change.new_ids.tolist(), cat]
        assert aim.source_ids[cat] == -1
        spelling = aim.pieces[-1]
        assert cat not in spelling
        assert b"".join(old.surface(i) for i in spelling) == b" cat"
        method = TokenDistillation(**FAST, replace_ids=(cat,), lr=1e-12)
        rows = method(source_of(old), target_of(old, change), context(old))
        assert rows.replaced.tolist() == [cat]
        torch.testing.assert_close(rows.replacements[0], source_of(old).table[spelling].mean(0), rtol=1e-5, atol=1e-6)
        assert aim.old_tokenizer.encode("a cat") != old.encode("a cat")

    def test_replacing_teaches_the_token_what_its_pieces_say(self, old, change, shallow):
        cat = self.word(old)
        learned = TokenDistillation(**FAST | {"snippets": 20}, replace_ids=(cat,), lr=0.02, epochs=8)(
            source_of(old), target_of(old, change), context(old)
        )
        aim = replacing(target_of(old, change), np.array([cat]))
        start = ConstituentMean()(source_of(old), aim, Context())
        assert isinstance(start, Graft)
        distances = []
        for rows in (start.apply(source_of(old).table), torch.cat([learned.values, learned.replacements])):
            student = Student(tiny_models.llama(), load_tokenizer(old), aim, start)
            with torch.no_grad():
                student.model.get_input_embeddings().weight[student.columns :] = rows
                found = [p for p in passages(aim, TEXTS, 12) if cat in p.new]
                gaps = [student.hidden([p.old])[0][p.old_at] - student.hidden([student.places[p.new]])[0][p.new_at] for p in found]
            distances.append(float(torch.cat(gaps).square().mean()))
        assert distances[1] < 0.9 * distances[0]

    def test_undertrained_ones_are_found_and_only_those_that_text_shows_are_replaced(self, old, change):
        cat = self.word(old)
        hidden = next(i for i in range(260, 300) if i not in {j for t in TEXTS for j in old.encode(t)})
        source = source_of(old)
        source.table[[cat, hidden]] *= 1e-4
        rows = TokenDistillation(**FAST, replace_ids="undertrained")(source, target_of(old, change), context(old))
        assert rows.replaced.tolist() == [cat]

    def test_passages_with_undertrained_old_tokens_are_left_out(self, old, change):
        cat, source = self.word(old), source_of(old)
        source.table[cat] *= 1e-4
        seen = {}
        for magikarp in (False, True):
            method = TokenDistillation(**FAST, magikarp=magikarp, snippets_from="both")
            weak = np.array([cat]) if magikarp else np.zeros(0, dtype=np.int64)
            model, tokenizer = context(old).model("test")
            seen[magikarp] = method.gather(target_of(old, change), model, tokenizer, context(old), weak)
        assert any(cat in p.old for p in seen[False])
        assert seen[True]
        assert not any(cat in p.old for p in seen[True])
        rows = TokenDistillation(**FAST, magikarp=True)(source, target_of(old, change), context(old))
        assert torch.isfinite(rows.values).all()

    @pytest.mark.parametrize(
        ("token", "message"),
        [("<eos>", "an added token"), (9999, "id 9999 is not a token"), ("a", "cannot be spelled without itself")],
    )
    def test_what_cannot_be_replaced_is_refused(self, old, change, token, message):
        method = TokenDistillation(**FAST, replace_ids=(old.vocab.get(token, token),))
        with pytest.raises(TokenizerError, match=message):
            method(source_of(old), target_of(old, change), context(old))

    def test_a_token_that_the_new_vocabulary_lacks_is_refused(self, old):
        trimmed = trim(old, ["the cat sat"])
        gone = next(i for i in range(290, 300) if i not in trimmed.source_ids)
        with pytest.raises(TokenizerError, match="not in the new vocabulary"):
            replacing(target_of(old, trimmed), np.array([gone]))


def test_loss_is_finite_with_every_option(old, change):
    method = TokenDistillation(
        **FAST, snippets_from="both", magikarp=True, replace_ids="undertrained", ce=True, start="merge", temperature=0.7
    )
    rows = method(source_of(old), target_of(old, change), context(old))
    assert math.isfinite(float(rows.values.abs().sum()))
