"""What the verbs write, sources of embeddings, figures of judgement, the comparison, bad input on the command line."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from typer.testing import CliRunner

from regraft.cli import app
from regraft.comparison import Outcome
from regraft.concepts.decode.judging import FRECHET, Distance, PixelFeatures, cosines, frechet, open_encoder, similarity
from regraft.concepts.decode.report import grid_of
from regraft.concepts.decode.sources import ClassSource, GridSource, open_source
from regraft.errors import InputError

RNG = np.random.default_rng(0)
TINY = ["--size", "tiny", "--set", "channels=[8,8]", "--batch", "4"]


def run(*given, code=0):
    done = CliRunner().invoke(app, ["concept", "decode", *map(str, given)])
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout


def made(folder, count=40, size=4):
    """Images of one color each, their embeddings, their labels."""
    (folder / "images").mkdir(parents=True)
    z = RNG.normal(size=(count, 3)).astype(np.float32)
    for number, row in enumerate(z):
        color = (128 + 60 * np.tanh(row)).astype(np.uint8)
        Image.fromarray(np.broadcast_to(color, (size, size, 3)).copy()).save(folder / "images" / f"{number:03d}.png")
    np.save(folder / "z.npy", z)
    rows = [("file", "label"), *((f"{number:03d}.png", "red" if row[0] > 0 else "other") for number, row in enumerate(z))]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (folder / "labels.txt").write_text("\n".join(label for _, label in rows[1:]))
    return z


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    made(folder)
    run("train", folder / "images", folder / "z.npy", "--out", folder / "model", "--steps", 3, *TINY)
    return folder


# Figures


def test_the_frechet_distance_in_closed_form():
    a = RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 4))
    b = RNG.normal(size=(200, 4)) + 1
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * np.real(sqrtm(cov[0] @ cov[1])))
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet(a, a + 2) == pytest.approx(16, rel=1e-6)


def test_a_distance_is_kept_and_drawn_again():
    real, drawn = RNG.normal(size=(20, 2)), RNG.normal(size=(3, 20, 2))
    sample = Distance(real, drawn)
    assert sample.value == pytest.approx(np.mean([frechet(real, one) for one in drawn]))
    outcome = Outcome({"method": "m", "frechet": sample.value, "error": None}, sample)
    again = Outcome.from_line(json.loads(json.dumps(outcome.to_line(FRECHET))), FRECHET)
    assert again.sample.value == pytest.approx(sample.value, abs=1e-3)
    some = np.array([0, 0, 1, 5])
    assert sample.resample(some, np.array([2])) == pytest.approx(frechet(real[some], drawn[2][some]))


def test_similarity_of_the_same_of_noise_and_of_zero():
    z = RNG.normal(size=(50, 30)).astype(np.float32)
    same, other = similarity(z, 3 * z).figures(), similarity(z, RNG.normal(size=z.shape).astype(np.float32)).figures()
    assert (same["cosine"], same["retrieved"]) == (pytest.approx(1), 1)
    assert abs(same["cosine_shuffled"]) < 0.2
    assert abs(other["cosine"]) < 0.2
    assert other["retrieved"] < 0.2
    assert cosines(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)) == 0
    with pytest.raises(InputError, match="needs the same encoder"):
        similarity(z, z[:, :5])


def test_pixel_features_are_axes_of_the_images_they_were_fitted_on():
    images = torch.rand(30, 3, 4, 4)
    features = PixelFeatures.fit(images, dims=5)
    rows = features(images)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-5)
    assert (np.diff(rows.std(0)) <= 1e-6).all()
    np.testing.assert_allclose(np.corrcoef(rows.T), np.eye(5), atol=1e-4)


def test_images_in_a_grid():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    assert grid_of(images, 2)[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]


# Sources


def test_embeddings_of_a_class_are_like_its_own(tmp_path):
    z = np.concatenate([RNG.normal(size=(200, 3)) * [1, 2, 3] + 5, RNG.normal(size=(200, 3)) - 5]).astype(np.float32)
    source = ClassSource.fit(z, ["a"] * 200 + ["b"] * 200)
    drawn = source.draw("a", 4000, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(drawn.mean(0), z[:200].mean(0), atol=0.2)
    np.testing.assert_allclose(drawn.std(0), z[:200].std(0), rtol=0.2)
    source.save(tmp_path)
    again = open_source(tmp_path)
    np.testing.assert_array_equal(
        again.draw("b", 2, torch.Generator().manual_seed(1)), source.draw("b", 2, torch.Generator().manual_seed(1))
    )
    with pytest.raises(InputError, match="--label c: no such class: choose a, b"):
        source.draw("c", 1)
    with pytest.raises(InputError, match="class 'b' has 1 embedding"):
        ClassSource.fit(z[:3], ["a", "a", "b"])
    with pytest.raises(InputError, match="no source of embeddings"):
        open_source(tmp_path / "none")


def test_grids_follow_their_condition(tmp_path):
    asked = np.eye(2, dtype=np.float32)[np.arange(64) % 2]
    sign = (2 * asked[:, 0] - 1)[:, None, None, None]
    grids = (sign * np.array([[[2.0, 0.5]], [[-1.0, 3.0]]]) + 0.1 * RNG.normal(size=(64, 2, 1, 2))).astype(np.float32)
    source = GridSource.fit(grids, asked, steps=150, width=48, layers=1, batch=32, lr=4e-3)
    drawn = source.draw(np.eye(2, dtype=np.float32).repeat(6, 0), steps=10, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (12, 2, 1, 2)
    np.testing.assert_allclose(drawn[:6].mean(0), grids[::2].mean(0), atol=0.5)
    np.testing.assert_allclose(drawn[6:].mean(0), grids[1::2].mean(0), atol=0.5)
    source.save_pretrained(tmp_path)
    again = open_source(tmp_path)
    one, two = (s.draw(asked[:1], steps=3, guidance_scale=2.0, generator=torch.Generator().manual_seed(0)) for s in (source, again))
    np.testing.assert_array_equal(one, two)
    with pytest.raises(InputError, match=r"trained on \(n, 2\)"):
        source.draw(np.zeros((1, 3)))


# Verbs


def test_train_writes_a_pipeline_and_leaves_nothing_beside_it(room):
    about = json.loads((room / "model" / "regraft.json").read_text())
    assert about["method"]["name"] == "representation-guided-diffusion"
    assert about["metrics"]["images"] == 40
    assert not list(room.glob("*.unfinished"))


def test_what_begins_with_embeddings_draws_them(room, tmp_path):
    assert "40 images" in run(room / "z.npy", "--model", room / "model", "--out", tmp_path / "i", "--steps", 2)
    names = sorted(path.name for path in (tmp_path / "i").glob("*.png"))
    assert (len(names), names[0]) == (40, "000000.png")
    assert Image.open(tmp_path / "i" / names[0]).size == (4, 4)
    assert "data:image/png;base64" in (tmp_path / "i" / "images.html").read_text()
    again = json.loads(run("images", room / "z.npy", "--model", room / "model", "--out", tmp_path / "j", "--steps", 2, "--json"))
    assert again == {"images": 40}
    same = [np.array(Image.open(tmp_path / folder / names[7])) for folder in "ij"]
    np.testing.assert_array_equal(*same)


def test_large_images_of_grids(room, tmp_path):
    run(room / "z.npy", "--model", room / "model", "--out", tmp_path / "l", "--large", "2x4", "--steps", 1, "--stride", 2)
    images = sorted((tmp_path / "l").glob("*.png"))
    assert len(images) == 5
    assert Image.open(images[0]).size == (16, 8)


def test_variations_carry_labels(room, tmp_path):
    given = ("vary", room / "images", room / "z.npy", "--model", room / "model", "--labels", room / "labels.csv")
    run(*given, "--out", tmp_path / "v", "--count", 2, "--steps", 1)
    with (tmp_path / "v" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (room / "labels.csv").open() as file:
        own = {row["file"]: row["label"] for row in csv.DictReader(file)}
    assert len(rows) == 80
    assert all(own[row["source"]] == row["label"] and (tmp_path / "v" / row["file"]).is_file() for row in rows)
    assert {row["file"] for row in rows if row["source"] == "003.png"} == {"003-1.png", "003-2.png"}


def test_sources_by_command(room, tmp_path):
    run("source", room / "z.npy", "--labels", room / "labels.txt", "--out", tmp_path / "s")
    run("sample", tmp_path / "s", "--label", "red", "--count", 8, "--out", tmp_path / "red.npy")
    drawn = np.load(tmp_path / "red.npy")
    assert drawn.shape == (8, 3)
    assert drawn[:, 0].mean() > 0
    np.save(tmp_path / "f.npy", RNG.normal(size=(10, 5)))
    run("source", room / "z.npy", "--features", tmp_path / "f.npy", "--grid", "2x2", "--steps", 2, "--out", tmp_path / "g")
    run("sample", tmp_path / "g", "--features", tmp_path / "f.npy", "--out", tmp_path / "g.npy")
    assert np.load(tmp_path / "g.npy").shape == (10, 2, 2, 3)
    run("sample", tmp_path / "g", "--out", tmp_path / "h.npy", code=2)
    run("source", room / "z.npy", "--out", tmp_path / "h", code=2)


def test_decoders_are_compared_and_kept(room, tmp_path):
    given = ("compare", room / "images", room / "z.npy", "--labels", room / "labels.csv", "--held-out", 0.8, "--draw-steps", 1, *TINY)
    rows = json.loads(run(*given, "--steps", 1, "--out", tmp_path, "--json"))["rows"]
    assert {row["method"] for row in rows} == {"unconditional", "label-conditional", "representation-guided-diffusion"}
    assert all(row["frechet"] > 0 and row["error"] is None for row in rows)
    assert "base64" in (tmp_path / "comparison.html").read_text()
    again = json.loads(run(*given, "--steps", 1, "--out", tmp_path, "--json"))["rows"]
    assert [row["seconds"] for row in again] == [row["seconds"] for row in rows]


def test_an_encoder_of_transformers(room, tmp_path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 4, "patch_size": 2}
    torch.manual_seed(0)
    ViTModel(ViTConfig(**shape)).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 4, "width": 4}).save_pretrained(tmp_path / "vit")
    run("embed", room / "images", "--encoder", tmp_path / "vit", "--out", tmp_path / "e.npy")
    rows = np.load(tmp_path / "e.npy")
    assert rows.shape == (40, 8)
    assert json.loads((tmp_path / "e.json").read_text())[0] == "000.png"
    encode = open_encoder(tmp_path / "vit")
    image = torch.from_numpy(np.array(Image.open(room / "images" / "005.png"))).permute(2, 0, 1)[None] / 255
    np.testing.assert_allclose(encode(image)[0], rows[5], atol=1e-5)
    with pytest.raises(InputError, match="no model of images"):
        open_encoder(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["Z", "--model", "M", "--out", "O", "--large", "3x3"], "40 embeddings do not divide into grids of 9"),
        (["Z", "--model", "M", "--out", "O", "--large", "two"], "write it as ROWSxCOLUMNS"),
        (["Z", "--model", "M", "--out", "O", "--large", "2x2", "--stride", "3"], "--stride 3: must divide the window of 4"),
        (["Z", "--model", "I", "--out", "O"], "holds no pipeline"),
        (["W", "--model", "M", "--out", "O"], "embeddings are 5 wide: this model was trained on 3"),
        (["N", "--model", "M", "--out", "O"], "row 0 holds values that are not finite"),
        (["Z", "--model", "M", "--out", "O", "--guidance", "2", "--guidance-weight", "1"], "give one of them"),
        (["none.npy", "--model", "M", "--out", "O"], "no such file of embeddings"),
        (["train", "I", "S", "--out", "O"], "3 embeddings for 40 images"),
        (["train", "I", "Z", "--out", "O", "--method", "label-conditional", "--size", "tiny"], "needs labels"),
        (["train", "I", "Z", "--out", "O", "--size", "huge"], "choose paper, small, tiny"),
        (["train", "I", "Z", "--out", "O"], "do not halve 3 times: scale them by --image-size 8"),
        (["train", "I", "Z", "--out", "O", "--vae", "I"], "no autoencoder of diffusers"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(room, tmp_path, given, said):
    np.save(tmp_path / "wide.npy", np.zeros((4, 5)))
    np.save(tmp_path / "nan.npy", np.full((4, 3), np.nan))
    np.save(tmp_path / "short.npy", np.zeros((3, 3)))
    stand = {"Z": room / "z.npy", "M": room / "model", "I": room / "images", "O": tmp_path / "out"}
    stand |= {"W": tmp_path / "wide.npy", "N": tmp_path / "nan.npy", "S": tmp_path / "short.npy"}
    output = run(*(stand.get(one, one) for one in given), code=2)
    assert said in " ".join(output.split())
    assert not (tmp_path / "out").exists()
