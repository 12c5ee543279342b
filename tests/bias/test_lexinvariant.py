"""Models that do not know their symbols: keyed tables, equivariance, generation, semi-lexinvariance, deciphering, tasks, the verbs."""

import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from regraft.bias import LexinvariantConfig, LexinvariantLM, decipher, open_reader
from regraft.bias.compare import compare
from regraft.bias.lexinvariant.decipher import best_key, by_frequency
from regraft.bias.lexinvariant.tables import first_seen, keyed_rows, keyed_shares, tables
from regraft.bias.prior import Plan
from regraft.bias.tasks.symbols import ALPHABET, cipher, encode, letters, lookup, windows
from regraft.cli import app
from regraft.errors import InputError, ParameterError


@pytest.fixture(scope="module")
def blind() -> LexinvariantLM:
    torch.manual_seed(0)
    return LexinvariantLM(LexinvariantConfig(9, 16, 2, 2, 64)).eval()


def ids_of(n: int = 2, length: int = 12, size: int = 9) -> torch.Tensor:
    return torch.randint(size, (n, length), generator=torch.Generator().manual_seed(1))


def test_a_row_is_a_function_of_its_key_and_normal() -> None:
    seeds = torch.tensor([5, 2**61, -3])
    whole = tables(seeds, 40, 7)
    torch.testing.assert_close(keyed_rows(seeds, torch.tensor([[3, 39], [0, 3], [9, 9]]), 7)[1, 1], whole[1, 3])
    assert torch.equal(tables(seeds[1:2], 40, 7)[0], whole[1])
    many = tables(torch.arange(50), 100, 32)
    assert abs(float(many.mean())) < 0.01
    assert float(many.std()) == pytest.approx(1, abs=0.01)
    flat = many.double().flatten(1)
    assert abs(float((flat[:-1] * flat[1:]).mean())) < 0.01  # neighbours of a seed
    assert abs(float((many[..., :-1] * many[..., 1:]).mean())) < 0.01
    assert float(many.pow(4).mean()) == pytest.approx(3, abs=0.1)
    square = tables(seeds, 7, 9, "orthonormal")
    torch.testing.assert_close(square @ square.mT, 9 * torch.eye(7).expand(3, -1, -1), atol=1e-4, rtol=0)
    angles = tables(torch.arange(400), 7, 9, "orthonormal").mean(0)
    assert float(angles.abs().max()) < 0.25  # rows lean nowhere, so nothing tells them apart
    shares = keyed_shares(torch.arange(200), 50)
    assert float((shares < 0.2).double().mean()) == pytest.approx(0.2, abs=0.02)


def test_renaming_symbols_with_their_rows_renames_the_answer(blind: LexinvariantLM) -> None:
    ids, order = ids_of(), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    rows = blind.draw(2, torch.tensor([1, 2]))
    moved = torch.empty_like(rows)
    moved[:, order] = rows
    before, after = blind(ids, tables=rows).logits, blind(order[ids], tables=moved).logits
    torch.testing.assert_close(after[..., order], before, atol=1e-6, rtol=1e-5)


def test_canonical_answers_depend_on_what_is_equal_alone(blind: LexinvariantLM) -> None:
    ids, order = ids_of(3, 20), torch.randperm(9, generator=torch.Generator().manual_seed(3))
    before, after = blind.canonical_log_probs(ids), blind.canonical_log_probs(order[ids])
    assert torch.equal(after[..., order], before)
    torch.testing.assert_close(before.exp().sum(-1), torch.ones(3, 20))
    unseen = [one for one in range(9) if one not in ids[0, :3]]
    assert len(before[0, 2, unseen].unique()) == 1  # nothing tells new symbols apart
    assert first_seen(torch.tensor([[7, 2, 7, 5, 2]])).tolist() == [[0, 1, 0, 2, 1]]


def test_the_mean_over_draws_comes_nearer_to_invariance_as_its_root(blind: LexinvariantLM) -> None:
    ids, order = ids_of(4, 8), torch.randperm(9, generator=torch.Generator().manual_seed(4))

    def gap(draws: int) -> float:
        before, after = (blind.log_probs(one, draws=draws, seed=seed) for one, seed in ((ids, 1), (order[ids], 2)))
        return float((after[..., order].exp() - before.exp()).square().mean().sqrt())

    assert gap(1) / gap(64) == pytest.approx(8, rel=0.25)


def test_no_learned_number_belongs_to_a_symbol_and_nothing_reaches_the_tables() -> None:
    few, many = (LexinvariantLM(LexinvariantConfig(size, 16, 1, 2)) for size in (5, 50))
    counts = [sum(one.numel() for one in model.parameters()) for model in (few, many)]
    assert counts[0] == counts[1]
    rows = many.draw(2)
    assert not rows.requires_grad
    assert not torch.equal(rows[0], rows[1])  # a table a sequence
    assert not torch.equal(many.draw(2), rows)  # in training new ones each time
    assert torch.equal(many.eval().draw(2), many.draw(2))


def test_part_of_the_symbols_keep_their_rows() -> None:
    torch.manual_seed(0)
    model, seeds = LexinvariantLM(LexinvariantConfig(200, 16, 1, 2, share=0.3)).eval(), torch.arange(20)
    assert torch.equal(model.draw(20, seeds, share=0.0), model.words.weight.expand(20, -1, -1))
    length = model.words.weight.detach().norm(dim=1).mean() / 4
    torch.testing.assert_close(model.draw(20, seeds, share=1.0), tables(seeds, 200, 16) * length)
    same = (model.draw(20, seeds) == model.words.weight).all(-1)
    assert float(same.double().mean()) == pytest.approx(0.7, abs=0.03)
    assert not torch.equal(same[0], same[1])
    model(torch.arange(200)[None], labels=torch.arange(200)[None], seeds=seeds[:1]).loss.backward()
    assert torch.equal(model.words.weight.grad[same[0]].abs().sum(1) > 0, torch.ones(int(same[0].sum()), dtype=torch.bool))
    assert not model.words.weight.grad[~same[0]].any()
    with pytest.raises(ParameterError, match="has learned no rows"):
        LexinvariantLM(LexinvariantConfig(5, 16, 1, 2)).draw(1, share=0.5)


def test_around_a_model_share_0_is_that_model(tmp_path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=True,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    plain = LlamaForCausalLM(config).eval()
    model, ids = LexinvariantLM.around(plain, share=0.2).eval(), ids_of(2, 7, 30)
    torch.testing.assert_close(model(ids, share=0.0).logits, plain(ids).logits)
    assert not torch.allclose(model(ids).logits, plain(ids).logits)
    with pytest.raises(ParameterError, match="head is not its table"):
        LexinvariantLM.around(LlamaForCausalLM(LlamaConfig(**(config.to_dict() | {"tie_word_embeddings": False}))), share=0.2)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None)).eval()
    torch.testing.assert_close(LexinvariantLM.around(other, share=0.5).eval()(ids, share=0.0).logits, other(ids).logits)
    model.save_pretrained(tmp_path)
    again = LexinvariantLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(ids).logits, model(ids).logits)


def test_generation_keeps_the_table_and_its_cache(blind: LexinvariantLM) -> None:
    ids = ids_of(2, 5)
    found = blind.generate(ids, max_new_tokens=6, do_sample=False, seeds=torch.tensor([7, 8]))
    whole = ids
    for _ in range(6):
        nearest = blind(whole, seeds=torch.tensor([7, 8])).logits[:, -1].argmax(-1, keepdim=True)
        whole = torch.cat([whole, nearest], 1)
    assert torch.equal(found, whole)


def test_letters_and_their_cipher() -> None:
    task, hidden = letters(), letters(ciphered=True, seed=3)
    assert torch.equal(task.x[:, 1:], task.y[:, :-1])
    assert torch.equal(cipher(3)[task.x_test], hidden.x_test)
    assert torch.equal(task.x, hidden.x)
    assert encode("ab z").tolist() == [1, 2, 0, 26]
    with pytest.raises(ParameterError, match="the character '!' is none of the 27"):
        encode("a!")
    with pytest.raises(ParameterError, match="windows of 9 need more"):
        windows(encode("abc"), 9)


def test_lookup_can_be_answered_from_what_is_shown_and_its_symbols_are_new() -> None:
    task = lookup(examples=50, held_out=30)
    assert task.x.max() < 16 <= task.x_test.min()
    for x, y in zip(task.x_test, task.y_test, strict=True):
        partners = dict(zip(x[:-1:2].tolist(), x[1::2].tolist(), strict=True))
        assert partners[int(x[-1])] == int(y[-1])
        assert y[:-1].eq(-100).all()
    with pytest.raises(ParameterError, match="twice as many symbols"):
        lookup(pairs=9)


def test_a_blind_model_does_not_mind_a_cipher_and_a_plain_one_does() -> None:
    scores = {}
    for task, methods in (
        (letters(length=32), ["lexinvariant", "semi-lexinvariant"]),
        (letters(length=32, ciphered=True), ["lexinvariant"]),
    ):
        few = type(task)(task.name, "symbols", task.x, task.y, task.x_test[:60], task.y_test[:60], 27, metric=task.metric)
        settings = {name: {"hidden": 32, "layers": 1} for name in (*methods, "plain-language-model")}
        done = compare(few, methods=methods, plan=Plan(steps=60, batch=8), seeds=1, settings=settings)
        scores[task.name] = {row["method"]: row["nats"] for row in done.rows}
    before, after = scores["letters"], scores["ciphered-letters"]
    assert abs(after["lexinvariant"] - before["lexinvariant"]) < 0.05
    assert after["plain-language-model"] > before["plain-language-model"] + 0.5
    assert before["semi-lexinvariant"] < 3.0 < before["lexinvariant"]


def test_names_are_dealt_one_for_one_and_frequencies_are_the_rival() -> None:
    total = torch.tensor([[-1.0, -2, -9], [-1.1, -9, -9], [0, 0, 0]])
    assert best_key(total, [0, 1]) == {0: 1, 1: 0}
    assert by_frequency(torch.tensor([2, 2, 2, 0, 0, 1]), torch.tensor([1, 1, 1, 0, 2, 2])) == {2: 1, 0: 2, 1: 0}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    (folder / "texts").mkdir()
    for number in range(80):
        (folder / "texts" / f"{number}.txt").write_text("aab " * (20 + number), encoding="utf-8")
    call = [
        "bias",
        "symbols",
        str(folder / "texts"),
        "--out",
        str(folder / "model"),
        "--steps",
        "150",
        "--probe-steps",
        "150",
        "--context",
        "32",
    ]
    done = CliRunner().invoke(app, [*call, "--hidden", "16", "--layers", "1", "--json"])
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def test_the_verbs_train_and_read_a_cipher_of_any_characters(reader) -> None:
    folder, figures = reader
    assert figures["alphabet"] == " ab"
    assert figures["nats_last_quarter"] < figures["nats_uniform"]
    (folder / "cipher.txt").write_text("☉☉#!" * 40, encoding="utf-8")
    (folder / "plain.txt").write_text("aab " * 39 + "aab.", encoding="utf-8")
    call = [
        "bias",
        "decipher",
        str(folder / "model"),
        "--cipher",
        str(folder / "cipher.txt"),
        "--plain",
        str(folder / "plain.txt"),
        "--json",
    ]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["key"]["☉"] == "a"
    assert sorted(found["key"].values()) == [" ", "a", "b"]
    assert found["places_right"] >= 0.5
    assert found["symbols"] == 160


def test_bad_input(reader, tmp_path) -> None:
    folder, _ = reader
    model, probe = open_reader(folder / "model")
    with pytest.raises(ParameterError, match="5 different symbols, the model was trained on texts of 3"):
        decipher(model, probe, "abcde")
    with pytest.raises(ParameterError, match="fewer than 2 different symbols"):
        decipher(model, probe, "aaaa")
    with pytest.raises(InputError, match="holds no symbol-blind model"):
        open_reader(tmp_path)
    call = ["bias", "decipher", str(folder / "model"), "--cipher"]
    assert CliRunner().invoke(app, [*call, str(tmp_path / "none.txt")]).exit_code == 2
    (tmp_path / "a.txt").write_text("ab", encoding="utf-8")
    (tmp_path / "b.txt").write_text("abc", encoding="utf-8")
    refused = CliRunner().invoke(app, [*call, str(tmp_path / "a.txt"), "--plain", str(tmp_path / "b.txt")])
    assert "3 symbols, the cipher has 2" in refused.output
    short = CliRunner().invoke(app, ["bias", "symbols", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out")])
    assert short.exit_code == 2, short.output
    assert not (tmp_path / "out").exists()
    for given, said in (({"vocab_size": 1}, "at least 2"), ({"share": 2}, "share 2"), ({"heads": 3}, "multiple of heads 3"),
                        ({"rows": "orthonormal", "vocab_size": 99}, "99 symbols do not fit into 64")):  # fmt: skip
        with pytest.raises(ParameterError, match=said):
            LexinvariantConfig(**given)
    with pytest.raises(ParameterError, match="this model has 3"):
        model(torch.tensor([[3]]))
    assert ALPHABET[0] == " "
