"""Rows of classes for models of transformers: the same answers as their own calls, a closed form, and what is refused."""

import pytest
import torch

from regraft.concepts.search.class_rows import ClassRows, by_class
from regraft.concepts.search.core import Pace, Task, search
from regraft.concepts.search.recognition import classification, clip_features, dense, detection, matched, overlap, segmentation
from regraft.concepts.search.through_text import ThroughText, text_tower
from regraft.errors import CheckpointError, ParameterError
from toys.pipelines import tokenizer

NAMES = ["zero", "cat", "dog"]
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SEEN = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}


def small(kind):
    import transformers as t

    torch.manual_seed(0)
    words = tokenizer()
    text = TEXT | {"vocab_size": len(words), "max_position_embeddings": 20, "eos_token_id": words.eos_token_id}
    text |= {"bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id}
    if kind == "clip":
        model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=SEEN, projection_dim=16))
    elif kind == "clipseg":
        more = {"extract_layers": [0, 1], "reduce_dim": 8, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
        model = t.CLIPSegForImageSegmentation(t.CLIPSegConfig(text_config=text, vision_config=SEEN, projection_dim=16, **more))
    else:
        model = t.OwlViTForObjectDetection(t.OwlViTConfig(text_config=text, vision_config=SEEN, projection_dim=16))
    return model.eval().requires_grad_(False), words


@pytest.fixture
def pixels():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def started(kind):
    model, words = small(kind)
    return model, words, ClassRows.of_phrases(model, words, NAMES)


def test_without_a_step_classes_are_clips_own(pixels):
    model, words, classes = started("clip")
    features = clip_features(model, pixels)
    task = classification(features, torch.zeros(5, dtype=torch.long), classes.owner, scale=float(model.logit_scale.exp()))
    told = words([f"a photo of a {name}" for name in NAMES], padding="max_length", return_tensors="pt")
    with torch.no_grad():
        own = model(pixel_values=pixels, **told).logits_per_image
    assert torch.allclose(task.model(features, classes.rows), own, atol=1e-4)


def test_a_quadratic_loss_ends_in_the_ridge_solution():
    draw = torch.Generator().manual_seed(0)
    X, Y = torch.randn(40, 6, generator=draw).double(), torch.randn(40, 3, generator=draw).double()
    start, strength = torch.randn(3, 6, generator=draw).double(), 0.2

    def loss(scores, target):
        return (scores - target).square().sum(1).mean()

    task = classification(X, Y, torch.arange(3), scale=1.0, cosine=False, loss=loss)
    found = search(task, start, pace=Pace(steps=300, lr=0.15, batch=40, optimizer="sgd", pull=strength)).rows
    closed = torch.linalg.solve(X.T @ X / 40 + strength * torch.eye(6), X.T @ Y / 40 + strength * start.T).T
    assert torch.allclose(found, closed, atol=1e-10)


def test_a_search_learns_classes(pixels):
    model, _, classes = started("clip")
    labels = torch.tensor([0, 1, 2, 1, 0])
    task = classification(clip_features(model, pixels), labels, classes.owner, scale=20.0)
    found = search(task, classes.rows, pace=Pace(steps=60, lr=0.05))
    assert (task.model(clip_features(model, pixels), found.rows).argmax(1) == labels).all()
    assert found.steps_to(0.5) is not None
    assert found.steps_to(-1.0) is None


def test_without_a_step_masks_are_clipsegs_own(pixels):
    model, words, classes = started("clipseg")
    task = segmentation(model, pixels, torch.zeros(5, 3, 16, 16))
    told = words(["a photo of a dog"] * 5, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        own = model(pixel_values=pixels, **told).logits
        x, _ = task.draw(5, torch.Generator())
        assert torch.allclose(task.model(x, classes.rows)[:, 2], own, atol=1e-5)


def test_a_search_learns_masks(pixels):
    model, _, classes = started("clipseg")
    masks = torch.zeros(5, 3, 16, 16)
    masks[:, 1, 4:12] = 1
    task = segmentation(model, pixels, masks)
    found = search(task, classes.rows, pace=Pace(steps=20, lr=0.1))
    assert found.curve[-1][1] < found.curve[0][1]
    assert all(value.grad is None for value in model.parameters())


def test_without_a_step_boxes_are_owlvits_own(pixels):
    model, words, classes = started("owlvit")
    boxes, labels = [torch.tensor([[0.5, 0.5, 0.25, 0.25]])] * 5, [torch.tensor([1])] * 5
    task = detection(model, pixels, boxes, labels, classes.owner)
    told = words([f"a photo of a {name}" for name in NAMES] * 5, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        own = model(pixel_values=pixels, input_ids=told["input_ids"], attention_mask=told["attention_mask"]).logits
        x, target = task.draw(5, torch.Generator())
        assert torch.allclose(task.model(x, classes.rows), own, atol=1e-4)
    assert target.sum() == 5
    found = search(task, classes.rows, pace=Pace(steps=30, lr=0.05))
    assert found.curve[-1][1] < found.curve[0][1]


def test_boxes_go_with_those_that_cover_them():
    true = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]])
    given = torch.tensor([[0.71, 0.7, 0.2, 0.2], [0.9, 0.1, 0.1, 0.1], [0.2, 0.21, 0.2, 0.2]])
    assert matched(given, true) == ([0, 2], [1, 0])
    square = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [3.0, 0.0, 4.0, 2.0]])
    assert torch.allclose(overlap(square, others), torch.tensor([[1.0, 1 / 3, -0.25]]))  # no overlap: minus the share that is empty


def test_pixels_by_their_cosine():
    features = torch.zeros(1, 2, 2, 2)
    features[0, 0, 0], features[0, 1, 1] = 3.0, 1.0
    task = dense(features, torch.zeros(1, 1, 2, 2), scale=10.0, shift=0.5)
    x, _ = task.draw(1, torch.Generator())
    assert torch.allclose(task.model(x, torch.tensor([[2.0, 0.0]]))[0, 0], torch.tensor([[5.0, 5.0], [-5.0, -5.0]]))


def test_a_class_has_the_best_of_its_rows():
    owner = torch.tensor([0, 0, 1])
    assert torch.equal(by_class(torch.tensor([[1.0, 3.0, 2.0]]), owner, 2), torch.tensor([[3.0, 2.0]]))
    model, words = small("clip")
    blocks = ClassRows.of_phrases(model, words, NAMES, ("a photo of a {}", "a drawing of the {}"))
    assert blocks.owner.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(blocks.scores(torch.arange(6.0)[None]), torch.tensor([[1.0, 3.0, 5.0]]))


@pytest.mark.parametrize("way", ["context", "class_words", "phrases"])
def test_through_the_tower_the_start_is_the_phrase(way):
    model, words, classes = started("clip")
    through = getattr(ThroughText, way)(*text_tower(model), words, NAMES)
    assert torch.allclose(through(through.start), classes.rows, atol=1e-6)
    given = through.start.clone().requires_grad_()
    through(given).square().sum().backward()
    assert (given.grad.abs().sum(1) > 0).all()
    assert len(given) == {"context": 4, "class_words": 3, "phrases": 15}[way]


def test_the_same_task_behind_the_tower_and_through_it(pixels):
    """The search behind the tower calls it never, those through it once a step."""
    model, words, classes = started("clip")
    task = classification(clip_features(model, pixels), torch.tensor([0, 1, 2, 1, 0]), classes.owner, scale=20.0)
    through, calls = ThroughText.context(*text_tower(model), words, NAMES), []
    model.text_model.register_forward_pre_hook(lambda module, args: calls.append(1))
    behind = search(task, classes.rows, pace=Pace(steps=7, lr=0.01))
    assert calls == []
    tuned = search(task.through(through), through.start, pace=Pace(steps=7, lr=0.01))
    assert len(calls) == 7
    assert behind.curve[-1][1] > 0 < tuned.curve[-1][1]


def test_rows_are_read_again_and_refused_by_another_width(tmp_path):
    model, _, classes = started("clip")
    classes.save(tmp_path / "c.safetensors")
    read = ClassRows.read(tmp_path / "c.safetensors", model)
    assert torch.equal(read.rows, classes.rows)
    assert (read.names, read.phrases) == (classes.names, classes.phrases)
    ClassRows(NAMES, torch.zeros(3, 7), torch.arange(3), NAMES).save(tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match="width 7; this model reads 16"):
        ClassRows.read(tmp_path / "d.safetensors", model)
    (tmp_path / "e.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not a file of class rows"):
        ClassRows.read(tmp_path / "e.safetensors")


def test_what_cannot_be_searched_is_refused(pixels):
    model, words = small("clip")
    with pytest.raises(ParameterError, match=r"one \{\} each"):
        ClassRows.of_phrases(model, words, NAMES, ("a photo",))
    with pytest.raises(ParameterError, match="5 examples and 2 targets"):
        classification(torch.ones(5, 3), torch.ones(2), torch.arange(2))
    with pytest.raises(ParameterError, match="longer than the text tower reads"):
        ThroughText.context(*text_tower(model), words, NAMES, " ".join(["a"] * 30))
    nothing = Task(lambda x, rows: rows * 0, lambda output, target: output.sum(), lambda size, generator: (None, None))
    with pytest.raises(ParameterError, match="no gradient"):
        search(nothing, torch.ones(2, 2))
    for start, mask in ((torch.ones(2), None), (torch.full((2, 2), torch.nan), None), (torch.ones(2, 2), torch.zeros(2))):
        with pytest.raises(ParameterError, match="rows"):
            search(nothing, start, mask=mask)
