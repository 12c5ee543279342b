"""The three tasks: what they ask of a model, what they make of its answers."""

import numpy as np
import pytest
import torch

from regraft.errors import TaskError
from regraft.tasks.coding import LabelAttentionCoder
from regraft.tasks.fine_tuning import POOL, FineTuning, batched_order
from regraft.tasks.narrowing import Narrowing
from regraft.tasks.task import IGNORED, check_encoder
from regraft.vocab.tasks import Classification, Coding, LabelAttention, Labelled, Tagged, Tagging, fine_tune, start_model
from toys.ontologies import DRUGS

TASKS = {"tagging": Tagging, "coding": Coding, "classification": Classification}
KINDS = list(TASKS)


@pytest.fixture(scope="module", params=["base", "k-tokeniser"])
def arm(request, subject):
    return subject.arm(request.param)


# Tagging


def test_every_piece_of_a_word_learns_its_tag(arm, data):
    task = Tagging.of(data["tagging"])
    examples = data["tagging"].train
    cut = 0
    for feature, example in zip(task.encode(arm.encoder, examples), examples, strict=True):
        words = arm.encoder(list(example.words), is_split_into_words=True).word_ids(0)
        assert len(words) == len(feature["input_ids"]) == len(feature["labels"])
        for word, label in zip(words, feature["labels"], strict=True):
            assert label == (IGNORED if word is None else task.ids[example.tags[word]])
        assert feature["firsts"] == [words.index(word) for word in range(len(example.words))]
        cut += len(words) - 2 > len(example.words)
    assert cut > 10


def test_perfect_outputs_are_a_perfect_score(arm, data):
    task, examples = Tagging.of(data["tagging"]), data["tagging"].test
    features = task.encode(arm.encoder, examples)
    labels = task.collate(features)["labels"].clamp(min=0)
    answers = task.answers(torch.nn.functional.one_hot(labels, len(task.labels)).float(), features)
    assert [tuple(answer) for answer in answers] == [example.tags for example in examples]
    counts = task.count(answers, examples)
    assert counts[:, 0].sum() == sum(len(example.labels) for example in examples)
    assert not counts[:, 1:].any()


def test_words_without_a_token_are_outside(arm):
    task = Tagging(["O", "B-Drug"], max_length=8)
    long = Tagged((*["the"] * 20, DRUGS[0]), (*["O"] * 20, "B-Drug"))
    odd = Tagged(("\u200b", DRUGS[0]), ("O", "B-Drug"))  # a character that is normalized away
    features = task.encode(arm.encoder, [long, odd])
    assert len(features[0]["input_ids"]) == 8
    assert features[0]["firsts"][-1] == -1
    always = torch.zeros(2, 20, 2)
    always[:, :, 1] = 1
    said = task.answers(always, features)
    assert said[0] == ["B-Drug"] * 6 + ["O"] * 15
    assert said[1][-1] == "B-Drug"


# Coding


def test_attention_without_preference_is_the_mean_over_real_tokens():
    torch.manual_seed(0)
    head, hidden = LabelAttention(6, 4), torch.randn(2, 5, 6)
    torch.nn.init.zeros_(head.attend.weight)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    means = torch.stack([hidden[0, :3].mean(0), hidden[1].mean(0)])
    torch.testing.assert_close(head(hidden, mask), head.score(means))


def test_attention_is_the_formula():
    torch.manual_seed(1)
    head, hidden = LabelAttention(6, 4), torch.randn(1, 5, 6)
    wanted = []
    for label in range(4):
        scores = torch.stack([head.attend.weight[label] @ torch.tanh(head.project.weight @ h) for h in hidden[0]])
        wanted.append(head.score.weight[label] @ (scores.softmax(0) @ hidden[0]) + head.score.bias[label])
    torch.testing.assert_close(head(hidden, torch.ones(1, 5))[0], torch.stack(wanted))


def test_chunks_hold_the_text_and_its_special_tokens(arm):
    task = Coding(["a"], max_length=40, chunk=16)
    text = " ".join(DRUGS[:20])
    feature = task.encode(arm.encoder, [Labelled(text, ("a",)), Labelled("the", ())])[0]
    whole = arm.encoder(text, add_special_tokens=False)["input_ids"]
    first, last = arm.encoder("")["input_ids"]
    assert len(whole) > 40
    assert all(len(chunk) <= 16 and chunk[0] == first and chunk[-1] == last for chunk in feature["chunks"])
    assert [i for chunk in feature["chunks"] for i in chunk[1:-1]] == whole[:40]


def test_padding_and_company_do_not_change_a_text(checkpoint, arm, subject):
    task = Coding(["a", "b"], chunk=12)
    model = start_model(task, checkpoint, subject.prepare(arm, 0), 0).eval()
    short, long = task.encode(arm.encoder, [Labelled("the patient", ()), Labelled(" ".join(DRUGS[:12]), ("a",))])
    with torch.no_grad():
        alone = [model(**task.collate([feature]))["logits"][0] for feature in (short, long)]
        together = model(**task.collate([short, long]))["logits"]
    torch.testing.assert_close(torch.stack(alone), together)


def test_threshold_is_the_best_on_the_training_side(checkpoint, arm, monkeypatch):
    task = Coding(["a", "b"])
    examples = [Labelled("x", ("a",)), Labelled("y", ("b",)), Labelled("z", ())]
    probabilities = [torch.tensor([0.31, 0.1]), torch.tensor([0.12, 0.4]), torch.tensor([0.22, 0.2])]
    monkeypatch.setattr(task, "predict", lambda model, features: probabilities)
    task.calibrate(torch.nn.Linear(1, 1), [], examples)
    assert task.threshold == 0.3  # of 0.25 and 0.3, which both separate, the one nearer a half
    assert task.count(probabilities, examples).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_labels_that_training_never_shows_are_missed():
    task = Coding(["a"])
    assert task.count([torch.tensor([0.9])], [Labelled("x", ("a", "new"))]).tolist() == [[1, 0, 1]]
    assert Classification(["a"]).count(["a", "a"], [Labelled("x", ("a",)), Labelled("y", ("new",))]).tolist() == [[1, 0, 0], [0, 1, 1]]


# All of them


@pytest.mark.parametrize("kind", KINDS)
def test_head_depends_on_the_seed_alone(checkpoint, subject, data, kind):
    task = TASKS[kind].of(data[kind])

    def head(name, seed):
        model = start_model(task, checkpoint, subject.prepare(subject.arm(name), seed), seed)
        inside = {id(p) for p in task.table(model).base_model.parameters()}
        return [p for p in model.parameters() if id(p) not in inside]

    base = head("base", 0)
    assert base
    for name in ("added-words", "random-rows", "k-tokeniser"):
        assert all(torch.equal(a, b) for a, b in zip(base, head(name, 0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(base, head("base", 1), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_table_changes_nothing(checkpoint, subject, data, kind):
    task, arm = TASKS[kind].of(data[kind]), subject.arm("k-tokeniser")
    features = task.encode(arm.encoder, data[kind].train[:12])
    narrowing = Narrowing.of(task, features)
    assert 0 < len(narrowing.kept) < subject.tokenizer.vocab_size + arm.new_tokens
    tuning = FineTuning(steps=3, batch_size=4, lr=1e-3, weight_decay=0.0)
    outputs = []
    for narrow in (False, True):
        model = start_model(task, checkpoint, subject.prepare(arm, 0), 0)
        given = narrowing.features(task, features) if narrow else features
        if narrow:
            narrowing.narrow(task.table(model))
        fine_tune(task, model, given, tuning, seed=0)
        with torch.no_grad():
            outputs.append(model.eval()(**task.collate(given))["logits"])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_fine_tuning_learns_and_repeats_itself(checkpoint, subject, data, kind):
    task, arm = TASKS[kind].of(data[kind]), subject.arm("k-tokeniser")
    features = task.encode(arm.encoder, data[kind].train)
    losses = []
    for _ in range(2):
        model = start_model(task, checkpoint, subject.prepare(arm, 0), 0)
        with torch.no_grad():
            before = float(model(**task.collate(features))["loss"])
        fine_tune(task, model, features, FineTuning(steps=25, batch_size=8, lr=5e-3), seed=3)
        with torch.no_grad():
            losses.append(float(model.eval()(**task.collate(features))["loss"]))
        assert losses[-1] < 0.9 * before
    assert losses[0] == losses[1]


def test_steps_follow_from_epochs():
    assert FineTuning(steps=7).length(1000) == 7
    assert FineTuning(epochs=3, batch_size=16).length(160) == 30
    assert FineTuning(epochs=0.01).length(20) == 1


@pytest.mark.parametrize(("count", "batch"), [(40, 8), (43, 8), (200, 4), (8, 8), (9, 8), (5, 1)])
def test_batches_of_like_size_take_every_text_at_most_once_a_shuffle(count, batch):
    sizes = np.random.default_rng(1).integers(3, 300, count).tolist()
    each = count // batch
    order = batched_order(sizes, batch, 3 * each + 1, seed=4)
    assert len(order) == (3 * each + 1) * batch
    for first in range(0, 3 * each * batch, each * batch):
        shuffle = order[first : first + each * batch]
        assert len(set(shuffle)) == len(shuffle)
    assert order == batched_order(sizes, batch, 3 * each + 1, seed=4)
    assert batched_order(sizes, batch, each, seed=4) == order[: each * batch]  # fewer steps are the first of more


def test_batches_of_like_size_pad_less_and_come_in_any_order():
    sizes, batch = np.random.default_rng(0).integers(3, 300, 640), 8

    def read(order):
        return sizes[np.array(order)].reshape(-1, batch).max(1)

    alike, mixed = read(batched_order(sizes.tolist(), batch, 80, 0)), read(batched_order([1] * 640, batch, 80, 0))
    assert alike.sum() < 0.75 * mixed.sum()
    assert (np.diff(alike) < 0).mean() > 0.3  # not from short to long
    assert len(set(batched_order([1] * 640, batch, 80, 0)) - set(batched_order([1] * 640, batch, 80, 1))) == 0
    assert POOL * batch < 640


def test_a_decoder_is_refused(tmp_path):
    from regraft.checkpoint import Checkpoint
    from toys.models import llama

    llama().save_pretrained(tmp_path)
    with pytest.raises(TaskError, match="tasks fine-tune an encoder, and this is a decoder"):
        check_encoder(Checkpoint.open(tmp_path))


def test_coder_is_an_ordinary_module(checkpoint):
    coder = Coding(["a", "b", "c"]).build(checkpoint)
    assert isinstance(coder, LabelAttentionCoder)
    assert coder(torch.ones(1, 1, 4, dtype=torch.long), torch.ones(1, 1, 4, dtype=torch.long))["logits"].shape == (1, 3)
