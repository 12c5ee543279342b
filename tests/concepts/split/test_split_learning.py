"""The loop, pictures, the judge, ways to learn new classes, and the verbs with their bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from PIL import Image
from typer.testing import CliRunner

from regraft.cli import app
from regraft.concepts.split import load
from regraft.concepts.split.images.drawing import Sampling, draw, picture
from regraft.concepts.split.images.judge import Judge, frechet
from regraft.concepts.split.images.pictures import chosen, open_pictures
from regraft.concepts.split.job import Body, add_class, begun, train
from regraft.concepts.split.layers.cost import factor_parameters
from regraft.concepts.split.layers.gated import gated
from regraft.concepts.split.learner import Backbones, shapes
from regraft.concepts.split.learners.kind import Kind, nearest
from regraft.concepts.split.model import Shape, copied, fresh
from regraft.concepts.split.objective import variational
from regraft.concepts.split.training import Plan, fit
from regraft.errors import EvaluationError, InputError, OutputError, ParameterError
from regraft.method import list_methods, resolve

SHAPE = Shape(side=8, channels=1, layers=1, heads=2, width=16)
SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--learngenes", "6", "--tailors", "3", "--draw-steps", "2"]
QUICK = Plan(steps=6, batch=8, save_every=2)


@pytest.fixture(scope="module")
def digits():
    return open_pictures("digits")


@pytest.fixture
def split(digits):
    return fresh(SHAPE, digits.names[:3], learngenes=6, tailors=3)


@pytest.fixture
def backbones(split):
    return Backbones(fresh(SHAPE, split.names, learngenes=None), split)


@pytest.fixture
def folder(tmp_path):
    """Three classes of eight images each: light to the left, to the right, all over."""
    draw = np.random.default_rng(0)
    for name, mask in (("left", [1, 0]), ("right", [0, 1]), ("whole", [1, 1])):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            values = np.kron(np.ones((8, 1)), np.kron(np.array(mask), np.ones(4))) * draw.uniform(120, 250, (8, 8))
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


def cli(*arguments):
    return CliRunner().invoke(app, ["concept", "split", *map(str, arguments)])


def refused(message, *arguments):
    done = cli(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.output.replace("\n", " ")


class TestLoop:
    def test_the_loss_falls_and_tailors_of_all_classes_move(self, split, digits):
        before, three = copied(split), digits.of(digits.names[:3])
        curve = fit(split, three.images, three.labels, Plan(steps=60, batch=32, lr=3e-3))
        assert np.mean([y for _, y in curve[-5:]]) < 0.8 * np.mean([y for _, y in curve[:5]])
        for name, layer in gated(split.transformer).items():
            moved = (layer.tailors.S - gated(before.transformer)[name].tailors.S).abs()
            assert (moved > 0).all()

    def test_a_killed_run_ends_as_one_that_was_not(self, split, digits, tmp_path, monkeypatch):
        three, other = digits.of(digits.names[:3]), copied(split)
        whole = fit(copied(split), three.images, three.labels, QUICK)
        calls = []

        def killed(*given):
            calls.append(1)
            if len(calls) == 6:
                raise KeyboardInterrupt
            return real(*given)

        import regraft.concepts.split.training as training

        real = training.noise_loss
        reference = copied(split)
        fit(reference, three.images, three.labels, QUICK)
        with monkeypatch.context() as patch:
            patch.setattr(training, "noise_loss", killed)
            with pytest.raises(KeyboardInterrupt):
                fit(other, three.images, three.labels, QUICK, state=tmp_path)
        again = copied(split)
        curve = fit(again, three.images, three.labels, QUICK, state=tmp_path)
        assert curve == whole
        for key, one in reference.transformer.state_dict().items():
            assert torch.equal(one, again.transformer.state_dict()[key]), key
        with pytest.raises(OutputError, match="of another run"):
            fit(copied(split), three.images[:-1], three.labels[:-1], QUICK, state=tmp_path)

    def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(self, split, digits, tmp_path, monkeypatch):
        three, start = digits.of(digits.names[:3]), copied(split)
        import regraft.concepts.split.training as training

        real, steps = training.noise_loss, []

        def broken(*given):
            steps.append(1)
            return real(*given) * (float("nan") if len(steps) == 4 else 1)

        with monkeypatch.context() as patch:
            patch.setattr(training, "noise_loss", broken)
            with pytest.raises(EvaluationError, match=r"at step 3 .*lower --lr.*last good state"):
                fit(split, three.images, three.labels, QUICK, state=tmp_path)
        assert all(torch.isfinite(one).all() for one in split.transformer.parameters())
        curve = fit(start, three.images, three.labels, replace(QUICK, lr=1e-4), state=tmp_path)
        assert [x for x, _ in curve] == [1, 2, 3, 4, 5, 6]

    def test_dropped_labels_train_learngenes_alone(self, split, digits):
        three, before = digits.of(digits.names[:3]), copied(split)
        fit(split, three.images, three.labels, replace(QUICK, drop=0.999))
        for name, layer in gated(split.transformer).items():
            assert torch.equal(layer.tailors.U, gated(before.transformer)[name].tailors.U)
            assert not torch.equal(layer.learngenes.U, gated(before.transformer)[name].learngenes.U)

    def test_decay_leaves_absent_classes_alone(self, split, digits):
        two, before = digits.of(digits.names[:2]), copied(split)
        fit(split, two.images, two.labels, replace(QUICK, decay=100.0, drop=0.0, ema=0.0))
        for name, layer in gated(split.transformer).items():
            old = gated(before.transformer)[name]
            assert torch.equal(layer.tailors.U[:, 6:], old.tailors.U[:, 6:])
            assert layer.tailors.U[:, :6].norm() < 0.8 * old.tailors.U[:, :6].norm()

    def test_settings_are_checked(self):
        for wrong in ({"steps": 0}, {"lr": 0.0}, {"drop": 1.0}, {"ema": 1.0}, {"decay": -1.0}):
            with pytest.raises(ParameterError, match="steps and batch from 1"):
                Plan(**wrong)

    def test_the_variational_bound_is_nothing_where_the_guess_is_right(self, split):
        scheduler, steps = split.scheduler, torch.tensor([1, 50, 500, 999])
        clean, noise = torch.rand(4, 1, 4, 4) * 2 - 1, torch.randn(4, 1, 4, 4)
        noisy = scheduler.add_noise(clean, noise, steps)
        right = variational(scheduler, clean, noisy, noise, -torch.ones_like(noise), steps)
        torch.testing.assert_close(right, torch.zeros(4), atol=1e-4, rtol=0)
        assert (variational(scheduler, clean, noisy, noise + 1, -torch.ones_like(noise), steps) > 1e-4).all()
        assert (variational(scheduler, clean, noisy, noise, torch.ones_like(noise), steps)[:2] > 1e-6).all()


class TestPictures:
    def test_digits(self, digits):
        assert digits.images.shape == (1797, 1, 8, 8)
        assert (digits.images.min(), digits.images.max()) == (-1, 1)
        assert digits.of(["7", "2"]).labels.unique().tolist() == [0, 1]
        first, rest = digits.divided(60, 0)
        assert torch.bincount(first.labels).tolist() == [60] * 10
        assert len(first.images) + len(rest.images) == 1797

    def test_a_folder_of_images(self, folder):
        found = open_pictures(folder)
        assert found.names == ("left", "right", "whole")
        assert found.images.shape == (24, 1, 8, 8)
        assert open_pictures(folder, "whole,left").labels.tolist() == [1] * 8 + [0] * 8
        assert open_pictures(folder, side=4).images.shape == (24, 1, 4, 4)

    def test_gray_among_color(self, folder):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "left" / "color.png")
        assert open_pictures(folder).images.shape == (25, 3, 8, 8)

    def test_latents_are_taken_as_they_are(self, tmp_path):
        (tmp_path / "x").mkdir()
        np.save(tmp_path / "x" / "1.npy", np.full((4, 8, 8), 7.5))
        found = open_pictures(tmp_path)
        assert found.latent
        assert found.images.unique().tolist() == [7.5]

    def test_names_of_classes(self):
        names = [str(one) for one in range(10)]
        assert chosen(names, "0-2,7") == ["0", "1", "2", "7"]
        assert chosen(["a-b", "c"], "a-b") == ["a-b"]
        for wrong, said in (("11", "no class '11'"), ("8-11", "no class '10'"), ("1,1", "comes twice"), (",", "names none")):
            with pytest.raises(InputError, match=said):
                chosen(names, wrong)

    def test_bad_files_are_named(self, folder, tmp_path):
        (folder / "left" / "broken.png").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"broken\.png: cannot be read"):
            open_pictures(folder)
        Image.fromarray(np.zeros((8, 6), np.uint8)).save(folder / "left" / "broken.png")
        with pytest.raises(InputError, match="add --side N"):
            open_pictures(folder)
        Image.fromarray(np.zeros((6, 6), np.uint8)).save(folder / "left" / "broken.png")
        with pytest.raises(InputError, match="add --side, or"):
            open_pictures(folder)
        np.save(folder / "left" / "x.npy", np.zeros(3))
        with pytest.raises(InputError, match="images and latents"):
            open_pictures(folder)
        (tmp_path / "latents" / "a").mkdir(parents=True)
        np.save(tmp_path / "latents" / "a" / "x.npy", np.full((1, 2, 2), np.nan))
        with pytest.raises(InputError, match="finite numbers"):
            open_pictures(tmp_path / "latents")
        (tmp_path / "latents" / "b").mkdir()
        with pytest.raises(InputError, match="no images"):
            open_pictures(tmp_path / "latents")
        with pytest.raises(InputError, match="no folder a class"):
            open_pictures(folder / "left")


class TestJudge:
    def test_real_digits_are_right_and_near(self, digits):
        real, other = digits.divided(0.5, 0)
        judge = Judge(real, other)
        assert judge.accuracy > 0.97
        drawn = torch.stack([other.images[other.labels == one][:60] for one in range(10)])
        assert judge.right(drawn).mean() > 0.95
        assert judge.right(drawn.roll(1, 0)).mean() < 0.05
        assert judge.distances(drawn).mean() < 0.2 * judge.distances(drawn.roll(1, 0)).mean()

    def test_the_distance_of_normal_samples_is_the_closed_form(self):
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(50_000, 3)), 2 * draw.normal(size=(50_000, 3)) + [3, 0, 0]
        assert frechet(x, x) == pytest.approx(0, abs=1e-6)
        assert frechet(x, y) == pytest.approx(9 + 3, rel=0.02)

    def test_one_image_a_class_is_too_few(self, digits):
        few, other = digits.divided(1, 0)
        with pytest.raises(InputError, match="1 images left to judge by"):
            Judge(few, other)


class TestLearners:
    @pytest.mark.parametrize("method", [cls.name for cls in list_methods("class-splitter")])
    def test_what_is_not_to_learn_does_not_move(self, method, backbones, digits):
        new = digits.of(["7", "8"]).divided(20, 0)[0]
        budget = factor_parameters(shapes(backbones.plain), 2 * 3)
        ready = resolve("class-splitter", method).begin(backbones, new, budget, 0)
        before = {name: one.detach().clone() for name, one in ready.split.transformer.named_parameters()}
        learns = {name for name, one in ready.split.transformer.named_parameters() if one.requires_grad}
        rows = 3 * 16  # of the table of classes
        wanted = {
            "kind": budget + rows,
            "largest-components": budget + rows,
            "svdiff": 6 * 16 + rows,
            "full": sum(one.numel() for one in before.values()),
        }
        each = sum(m + n for m, n in shapes(backbones.plain))
        assert ready.trainable == wanted.get(method, round(budget / each) * each + rows)
        fit(ready.split, new.images, new.labels, replace(QUICK, drop=0.0), rates=ready.rates)
        for name, one in ready.split.transformer.named_parameters():
            assert torch.equal(one, before[name]) != (name in learns), name
        assert draw(ready.split, Sampling(1, steps=2)).shape == (2, 1, 1, 8, 8)

    def test_pissa_begins_as_the_model_it_adapts(self, backbones, digits):
        new = digits.of(["7", "8"])
        adapted = resolve("class-splitter", "pissa").begin(backbones, new, 2000, 0).split
        plain = resolve("class-splitter", "full").begin(backbones, new, 0, 0).split
        torch.testing.assert_close(draw(adapted, Sampling(1, steps=2)), draw(plain, Sampling(1, steps=2)), atol=1e-3, rtol=1e-3)

    def test_slow_learngenes_move_less_than_tailors(self, backbones, digits):
        new = digits.of(["7", "8"])
        ready = Kind(learngenes="slow", slow=0.01).begin(backbones, new, 2000, 0)
        before = copied(ready.split)
        fit(ready.split, new.images, new.labels, replace(QUICK, drop=0.0), rates=ready.rates)
        for name, layer in gated(ready.split.transformer).items():
            old = gated(before.transformer)[name]
            shared, own = (
                (now.U - then.U).abs().mean() for now, then in ((layer.learngenes, old.learngenes), (layer.tailors, old.tailors))
            )
            assert 0 < shared < 0.1 * own

    def test_the_nearest_class_of_known_images_is_their_own(self, split, digits):
        three = digits.of(digits.names[:3])
        fit(split, three.images, three.labels, Plan(steps=90, batch=32, lr=4e-3))
        assert nearest(split, digits.of(["2", "0"]), 0) == [2, 0]
        ready = Kind(initial="nearest").begin(Backbones(split, split), digits.of(["2", "0"]), 0, 0)
        assert torch.equal(draw(ready.split, Sampling(1, steps=2)), draw(split, Sampling(1, steps=2), classes=[2, 0]))


class TestVerbs:
    def test_trained_cut_and_put_on(self, folder, tmp_path):
        whole, more = tmp_path / "whole", tmp_path / "more"
        done = cli("train", folder, "--classes", "left,right", *SMALL, "--steps", "4", "--each", "2", "--out", whole, "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["classes"] == ["left", "right"]
        assert [row["drawn with"] for row in found["parts"]] == ["own tailors", "tailors of the next class", "learngenes alone"]
        page = (whole / "report.html").read_text("utf-8")
        assert page.count("data:image/png") == 6
        assert not (tmp_path / "whole.training").exists()
        record = json.loads((whole / "regraft.json").read_text("utf-8"))
        assert record["method"]["parameters"]["body"]["learngenes"] == 6
        done = cli(
            "extract", whole, "--classes", "right", "--dense", "--each", "1", "--draw-steps", "2", "--out", tmp_path / "one", "--json"
        )
        before, after = json.loads(done.stdout)["costs"]
        assert after["mb"] < before["mb"]
        done = cli(
            "add-class",
            whole,
            "--images",
            folder,
            "--classes",
            "whole",
            "--steps",
            "3",
            "--each",
            "1",
            "--draw-steps",
            "2",
            "--out",
            more,
            "--json",
        )
        assert done.exit_code == 0, done.output
        old, new = load(whole), load(more)
        assert new.names == ("left", "right", "whole")
        assert torch.equal(draw(new, Sampling(2, steps=2), classes=[0, 1]), draw(old, Sampling(2, steps=2)))

    def test_a_plain_model_is_factorised(self, folder, tmp_path):
        cli("train", folder, *SMALL, "--plain", "--steps", "3", "--each", "1", "--out", tmp_path / "plain")
        body = Body(learngenes=6, tailors=3, start=tmp_path / "plain")
        start = begun(open_pictures(folder), body, 0)
        plain = load(tmp_path / "plain")
        with start.gate.set(torch.ones(1, 9)):
            found = start.transformer(torch.ones(1, 1, 8, 8), torch.tensor([5]), torch.tensor([1])).sample
        wanted = plain.transformer(torch.ones(1, 1, 8, 8), torch.tensor([5]), torch.tensor([1])).sample
        assert start.partition.rank == 15
        assert not torch.allclose(found, wanted, atol=1e-6)  # one of sixteen components is left out
        assert (found - wanted).abs().max() < 0.2
        refused("is factorised already", "train", folder, *SMALL, "--start", _saved(start, tmp_path), "--out", tmp_path / "x")

    def test_diffusers_own_models_are_a_start(self, folder, tmp_path):
        torch.manual_seed(0)
        known = DiTTransformer2DModel(**SHAPE.config(5))
        known.save_pretrained(tmp_path / "dit" / "transformer")
        DDIMScheduler(beta_schedule="linear").save_pretrained(tmp_path / "dit" / "scheduler")
        pictures = open_pictures(folder)
        start = begun(pictures, Body(learngenes=7, tailors=3, start=tmp_path / "dit"), 0)
        assert start.scheduler.config.beta_schedule == "linear"
        assert start.names == ("left", "right", "whole")
        for name, layer in gated(start.transformer).items():
            torch.testing.assert_close(layer.weight(), known.get_submodule(name).weight.detach(), atol=1e-5, rtol=1e-4)
        alone = begun(pictures, Body(learngenes=7, tailors=3, start=tmp_path / "dit" / "transformer"), 0)
        assert alone.scheduler.config.clip_sample

    def test_compared_and_taken_up_again(self, tmp_path):
        call = [
            "compare",
            "digits",
            "--classes",
            "0-1",
            "--new",
            "2-3",
            *SMALL,
            "--methods",
            "kind,lora",
            "--pretrain",
            "3",
            "--steps",
            "2",
        ]
        call += ["--seeds", "2", "--each", "4", "--out", tmp_path / "c", "--json"]
        done = cli(*call)
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)["rows"]
        assert rows[0]["method"] == "full"
        assert {row["method"] for row in rows} == {"full", "kind", "lora"}
        lines = (tmp_path / "c" / "rows.jsonl").read_text("utf-8")
        assert json.loads(cli(*call).stdout)["rows"] == rows
        assert (tmp_path / "c" / "rows.jsonl").read_text("utf-8") == lines
        assert (tmp_path / "c" / "comparison.html").read_text("utf-8").count("data:image/png") == 2 * 4

    def test_bad_input(self, folder, tmp_path, split):
        out, steps = ("--out", tmp_path / "out"), ("--steps", "1")
        refused("no such folder", "train", tmp_path / "none", *out)
        refused("no class 'x'", "train", folder, "--classes", "x", *out)
        refused("at most 2 a class", "train", folder, *SMALL, "--tailors", "8", "--learngenes", "8", *steps, *out)
        refused("multiple of heads", "train", folder, "--width", "15", *out)
        refused("not a DiT", "train", folder, "--start", folder, *out)
        refused("no such device", "train", folder, *SMALL, "--device", "nowhere", *out)
        refused("not an AutoencoderKL", "train", folder, "--vae", folder, *out)
        refused(
            "is among --classes and --new", "compare", "digits", "--classes", "0-2", "--new", "2-3", *SMALL, *out,
        )  # fmt: skip
        refused("that method is not compared", "compare", "digits", "--classes", "0", "--new", "1", "--set", "nfe.x=1", *out)
        place = _saved(split, tmp_path)
        refused("no class 'z'", "extract", place, "--classes", "z", *out)
        refused("one class has one dense matrix", "extract", place, "--classes", "0,1", "--dense", *out)
        refused("is in", "add-class", place, "--images", "digits", "--classes", "0", *out)
        refused(
            "initial='best' is not accepted",
            "add-class",
            place,
            "--images",
            "digits",
            "--classes",
            "7",
            "--initial",
            "best",
            *out,
        )
        refused("no split.json", "extract", folder, "--classes", "0", *out)
        assert not (tmp_path / "out").exists()

    def test_a_killed_training_goes_on(self, folder, tmp_path, monkeypatch):
        import regraft.concepts.split.training as training

        real, calls = training.noise_loss, []

        def killed(*given):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return real(*given)

        given = {"body": Body(layers=1, heads=2, width=16, learngenes=6, tailors=3), "plan": QUICK, "sampling": Sampling(1, steps=1)}
        with monkeypatch.context() as patch:
            patch.setattr(training, "noise_loss", killed)
            with pytest.raises(KeyboardInterrupt):
                train(str(folder), tmp_path / "m", **given)
        assert not (tmp_path / "m").exists()
        assert (tmp_path / "m.training").is_dir()
        calls.clear()
        monkeypatch.setattr(training, "noise_loss", lambda *given: calls.append(1) or real(*given))
        train(str(folder), tmp_path / "m", **given)
        assert len(calls) == 2
        with pytest.raises(InputError, match="draws"):
            add_class(tmp_path / "m", str(_of_color(tmp_path)), tmp_path / "n", plan=QUICK)


def test_small_images_are_shown_large():
    shown = picture(torch.zeros(2, 1, 8, 8))
    assert shown.size == (2 * 9 * 6, 8 * 6)
    assert picture(torch.zeros(1, 3, 64, 64)).mode == "RGB"


def _saved(split, tmp_path):
    from regraft.concepts.split.model import save

    (tmp_path / "kept").mkdir()
    save(split, tmp_path / "kept")
    return tmp_path / "kept"


def _of_color(tmp_path):
    for number in range(4):
        (tmp_path / "color" / "red").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / "color" / "red" / f"{number}.png")
    return tmp_path / "color"
