"""OMP and its siblings: closed forms, equality with scikit-learn, and refusals."""

import numpy as np
import pytest
import torch

from regraft.errors import ParameterError
from regraft.language.precision import matmul_precision
from regraft.method import resolve
from regraft.vocab.initializers.common_interpolation import least_squares
from regraft.vocab.initializers.landmark_pca import carry
from regraft.vocab.initializers.omp import gram_pursuit, pursuit
from regraft.vocab.initializers.omp.gram_pursuit import GramMatrix
from regraft.vocab.initializers.omp.pursuit import matching_pursuit
from regraft.vocab.mixing.donor import Donor
from toys.donors import DONOR_WORDS, NEW_WORDS, OLD_WORDS, edit_table, save_model, task

PRODUCTS = ["gram", torch.bfloat16, torch.float32]


def problem(m=40, n=120, d=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(n, d, generator=generator) * (0.5 + torch.rand(n, 1, generator=generator))
    return torch.randn(m, d, generator=generator), atoms


def plain_pursuit(target, atoms, k):
    """One target by the textbook, in float64."""
    target, atoms = target.double().numpy(), atoms.double().numpy()
    chosen, residual = [], target
    for _ in range(k):
        score = np.abs(atoms @ residual)
        score[chosen] = -1
        chosen.append(int(score.argmax()))
        weights = np.linalg.lstsq(atoms[chosen].T, target, rcond=None)[0]
        residual = target - weights @ atoms[chosen]
    return chosen, weights


def dense(found, n):
    weights = np.zeros((len(found.indices), n + 1))
    np.put_along_axis(weights, np.where(found.indices < 0, n, found.indices), found.weights, 1)
    return weights[:, :n]


@pytest.mark.parametrize("products", PRODUCTS)
def test_pursuit_is_the_textbook_s_wherever_the_products_come_from(products):
    targets, atoms = problem()
    found = matching_pursuit(targets, atoms, 12, products=products)
    for i in range(len(targets)):
        chosen, weights = plain_pursuit(targets[i], atoms, 12)
        assert found.indices[i].tolist() == chosen
        np.testing.assert_allclose(found.weights[i], weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("products", PRODUCTS)
def test_atoms_with_outlying_coordinates_are_not_missed(products):
    """Three coordinates forty times the others make every rounding coarse; the choice stays that of full precision."""
    generator = torch.Generator().manual_seed(5)
    atoms, targets = torch.randn(1_000, 96, generator=generator), torch.randn(50, 96, generator=generator)
    atoms[::7, :3] *= 40
    targets[::5, 1] *= 40
    found = matching_pursuit(targets, atoms, 16, products=products)
    for i in range(0, 50, 5):
        assert found.indices[i].tolist() == plain_pursuit(targets[i], atoms, 16)[0]


@pytest.mark.parametrize("products", PRODUCTS)
def test_targets_behind_all_atoms_take_none_and_do_not_disturb_the_others(products):
    """37 atoms are no whole number of groups; every second target has a negative product with each of them."""
    generator = torch.Generator().manual_seed(1)
    atoms = torch.rand(37, 8, generator=generator) + 0.1
    targets = torch.rand(6, 8, generator=generator) + 0.1
    targets[1::2] *= -1
    found = matching_pursuit(targets, atoms, 3, sign="non_negative", products=products)
    assert (found.indices[1::2] == -1).all()
    assert not found.weights[1::2].any()
    alone = matching_pursuit(targets[::2].contiguous(), atoms, 3, sign="non_negative", products=products)
    assert np.array_equal(found.indices[::2], alone.indices)
    assert np.allclose(found.weights[::2], alone.weights)
    assert (found.indices[::2, 0] >= 0).all()


def test_a_gram_matrix_beyond_its_room_or_use_is_not_made(monkeypatch):
    targets, atoms = problem()
    expected = matching_pursuit(targets, atoms, 6, products=torch.float32).indices
    monkeypatch.setattr(pursuit, "SMALL_WORK", 3 * 120)
    monkeypatch.setattr(pursuit, "has_tiles", lambda: False)
    made = []
    matrix = GramMatrix.__init__
    monkeypatch.setattr(GramMatrix, "__init__", lambda self, atoms: made.append(len(atoms)) or matrix(self, atoms))
    assert np.array_equal(matching_pursuit(targets, atoms, 6).indices, expected)
    assert made == [120]
    assert np.array_equal(matching_pursuit(targets[:3], atoms, 6).indices, expected[:3])  # 120 atoms for 3 targets
    for limit, value in (("SMALL_WORK", 40 * 120 + 1), ("GRAM_BYTES", 2 * 120**2 - 1)):
        monkeypatch.setattr(pursuit, limit, value)
        assert np.array_equal(matching_pursuit(targets, atoms, 6).indices, expected)
    assert made == [120]


def test_where_products_cost_next_to_nothing_no_gram_matrix_is_made(monkeypatch):
    targets, atoms = problem()
    expected = matching_pursuit(targets, atoms, 6, products=torch.float32).indices
    monkeypatch.setattr(pursuit, "SMALL_WORK", 3 * 120)
    monkeypatch.setattr(pursuit, "has_tiles", lambda: True)
    monkeypatch.setattr(GramMatrix, "__init__", lambda self, atoms: pytest.fail("a Gram matrix was made"))
    assert np.array_equal(matching_pursuit(targets, atoms, 6).indices, expected)


def test_products_are_made_in_float32_whatever_else_is_computed_now(monkeypatch):
    asked = []
    monkeypatch.setattr(GramMatrix, "pursue", lambda *given, **named: asked.append(torch.get_float32_matmul_precision()) or 1 / 0)
    with matmul_precision("auto", "cpu"), pytest.raises(ZeroDivisionError):
        matching_pursuit(*problem(), 3, products="gram")
    assert asked[0] == "highest"
    assert torch.get_float32_matmul_precision() == "highest"


def test_where_nothing_can_be_kept_code_is_compiled_anew(monkeypatch):
    given = []

    def njit(**options):
        given.append(options)
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(gram_pursuit.numba, "njit", njit)
    assert gram_pursuit.compiled(abs) is abs
    assert len(given) == 2


@pytest.mark.parametrize("products", PRODUCTS)
def test_normalized_atoms_give_scikit_learn_s_weights(products):
    linear_model = pytest.importorskip("sklearn.linear_model")
    targets, atoms = problem(seed=1)
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    found = matching_pursuit(targets, atoms, 10, products=products)
    a, x = atoms.double().numpy(), targets.double().numpy()
    expected = linear_model.orthogonal_mp_gram(a @ a.T, a @ x.T, n_nonzero_coefs=10)
    np.testing.assert_allclose(dense(found, len(atoms)), expected.T, atol=1e-5)


@pytest.mark.parametrize("sign", ["signed", "non_negative"])
@pytest.mark.parametrize("products", PRODUCTS)
def test_residuals_never_grow(sign, products):
    found = matching_pursuit(*problem(seed=2), 20, sign, products)
    assert (np.diff(found.residuals, axis=1) <= 1e-5).all()


@pytest.mark.parametrize("products", PRODUCTS)
def test_all_atoms_reproduce_targets_in_their_span(products):
    generator = torch.Generator().manual_seed(3)
    atoms = torch.randn(9, 20, generator=generator)
    mix = torch.randn(5, 9, generator=generator)
    found = matching_pursuit(mix @ atoms, atoms, 9, products=products)
    np.testing.assert_allclose(dense(found, 9), mix, atol=1e-4)


@pytest.mark.parametrize("products", PRODUCTS)
def test_target_outside_the_span_ends_where_nothing_is_left_to_gain(products):
    atoms = torch.eye(12)[:4]
    found = matching_pursuit(torch.tensor([[1.0, 2, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]]), atoms, 4, products=products)
    assert found.indices[0].tolist() == [1, 0, -1, -1]
    assert found.weights[0].tolist() == [2, 1, 0, 0]
    assert found.residuals[0, -1] == 5


@pytest.mark.parametrize("products", PRODUCTS)
def test_twin_atoms_and_more_atoms_than_dimensions_do_no_harm(products):
    targets, atoms = problem(m=8, n=30, d=6)
    atoms = torch.cat([atoms, atoms])
    found = matching_pursuit(targets, atoms, 30, products=products)
    rebuilt = dense(found, 60) @ atoms.double().numpy()
    np.testing.assert_allclose(rebuilt, targets.double().numpy(), atol=1e-4)


@pytest.mark.parametrize("products", PRODUCTS)
def test_raw_atoms_prefer_long_rows_and_normalized_ones_the_angle(products):
    atoms = torch.tensor([[1.0, 0.2], [9.0, 9.0]])
    target = torch.tensor([[1.0, 0.1]])
    assert matching_pursuit(target, atoms, 1, products=products).indices.tolist() == [[1]]
    assert matching_pursuit(target, atoms / atoms.norm(dim=1, keepdim=True), 1, products=products).indices.tolist() == [[0]]


@pytest.mark.parametrize("products", PRODUCTS)
def test_non_negative_weights_are_the_best_of_their_support(products):
    optimize = pytest.importorskip("scipy.optimize")
    targets, atoms = problem(seed=4)
    found = matching_pursuit(targets, atoms, 8, "non_negative", products)
    assert (found.weights >= 0).all()
    for i in range(len(targets)):
        support = found.indices[i][found.indices[i] >= 0]
        expected, _ = optimize.nnls(atoms[support].double().numpy().T, targets[i].double().numpy())
        np.testing.assert_allclose(found.weights[i][found.indices[i] >= 0], expected, atol=1e-4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"), OLD_WORDS)


@pytest.fixture
def donor(tmp_path):
    return save_model(tmp_path, DONOR_WORDS, dim=6, seed=1)


def test_rows_are_the_old_rows_of_the_donor_s_atoms(model, donor):
    source, target, context = task(model, NEW_WORDS, donor)
    bridge = Donor.of(context, "omp").bridge(source, target, context, "omp")
    graft = resolve("initializer", "omp", {"k": 3})(source, target, context)
    for i in range(0, len(target), 5):
        chosen, weights = plain_pursuit(bridge.rows[i], bridge.anchors, 3)
        expected = torch.from_numpy(weights) @ source.table[bridge.anchor_ids[chosen]].double()
        torch.testing.assert_close(graft.apply(source.table)[i].double(), expected, rtol=1e-4, atol=1e-4)


def test_new_token_that_is_a_shared_token_in_the_donor_is_that_token(model, donor):
    twin, word = DONOR_WORDS.index(NEW_WORDS[3]), DONOR_WORDS.index("cd")
    edit_table(donor, lambda table: table[twin].copy_(table[word]))
    source, target, context = task(model, NEW_WORDS, donor)
    for settings in ({"atoms": "normalized"}, {"atoms": "normalized", "weights": "convex"}):
        graft = resolve("initializer", "omp", {"k": 4, **settings})(source, target, context)
        old, weight = graft.explain(3)[0]
        assert source.tokenizer.pieces[old] == "cd"
        assert weight == pytest.approx(1, abs=1e-5)


def test_convex_weights_lie_in_the_hull_and_head_rows_use_the_donor_s_head(model, donor):
    source, target, context = task(model, NEW_WORDS, donor)
    start = resolve("initializer", "omp", {"k": 4, "weights": "convex"})
    assert start(source, target, context).certificate().inside == 1
    assert start.separate_head
    head = start(*task(model, NEW_WORDS, donor, "head"))
    assert (start(source, target, context).weights != head.weights).nnz > 0


@pytest.mark.parametrize("weights", ["non_negative", "convex"])
def test_token_that_points_away_from_all_shared_ones_takes_the_mean_of_its_pieces(model, donor, weights):
    """Else its row would be zero, and outside the hull that "convex" promises."""

    def turn(table):
        table.abs_()
        table[DONOR_WORDS.index(NEW_WORDS[3])].neg_()

    edit_table(donor, turn)
    source, target, context = task(model, NEW_WORDS, donor)
    graft = resolve("initializer", "omp", {"k": 4, "weights": weights})(source, target, context)
    pieces = target.pieces[3]
    assert dict(graft.explain(3)) == pytest.approx({piece: pieces.count(piece) / len(pieces) for piece in pieces})
    assert weights != "convex" or graft.certificate().inside == 1
    (note,) = context.notes
    assert "no shared token points the way of the donor's row for 1 of the 36 new tokens" in note
    assert NEW_WORDS[3] in note


def test_no_token_is_left_to_a_donor_that_points_away_from_everything(model, donor):
    def turn(table):
        table.abs_()
        table[[DONOR_WORDS.index(word) for word in NEW_WORDS]] *= -1

    edit_table(donor, turn)
    with pytest.raises(ParameterError, match=r"for 36 of the 36 new tokens.*weights=signed"):
        resolve("initializer", "omp", {"k": 4, "weights": "convex"})(*task(model, NEW_WORDS, donor))


@pytest.mark.parametrize("method", ["omp", "common-interpolation"])
def test_k_beyond_the_shared_tokens_or_below_one_is_refused(model, donor, method):
    with pytest.raises(ParameterError, match=r"k=500 but donor and model share only \d+ tokens: --set k=") as caught:
        resolve("initializer", method, {"k": 500})(*task(model, NEW_WORDS, donor))
    assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match="k=0 is not accepted"):
        resolve("initializer", method, {"k": 0})


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_interpolation_by_distance_is_a_mix_of_the_nearest(model, donor, metric):
    source, target, context = task(model, NEW_WORDS, donor)
    bridge = Donor.of(context, "omp").bridge(source, target, context, "omp")
    graft = resolve("initializer", "common-interpolation", {"k": 5, "metric": metric})(source, target, context)
    assert graft.certificate().inside == 1
    x, anchors = bridge.rows[7], bridge.anchors
    if metric == "euclidean":
        near = -(anchors - x).norm(dim=1)
        weights = 1 / -near
    else:
        near = weights = torch.nn.functional.cosine_similarity(anchors, x[None])
    nearest = near.topk(5).indices
    expected = dict(zip(bridge.anchor_ids[nearest].tolist(), (weights[nearest] / weights[nearest].sum()).tolist(), strict=True))
    assert dict(graft.explain(7)) == pytest.approx(expected, rel=1e-4)


def test_barycentric_and_least_squares_weights_reproduce_what_they_can():
    generator = torch.Generator().manual_seed(5)
    points = torch.randn(3, 4, 10, generator=generator, dtype=torch.float64)
    mix = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3, dtype=torch.float64)
    rows = torch.einsum("bk,bkd->bd", mix, points)
    torch.testing.assert_close(least_squares(rows, points, affine=True), mix)
    torch.testing.assert_close(least_squares(2 * rows, points, affine=False), 2 * mix)
    outside = least_squares(rows + torch.randn(3, 10, generator=generator, dtype=torch.float64), points, affine=True)
    torch.testing.assert_close(outside.sum(dim=1), torch.ones(3, dtype=torch.float64))


def test_landmark_pca_undoes_a_rotation_and_a_shift():
    generator = torch.Generator().manual_seed(6)
    anchors = torch.randn(50, 7, generator=generator, dtype=torch.float64) * torch.arange(1, 8)
    rotation, _ = torch.linalg.qr(torch.randn(7, 7, generator=generator, dtype=torch.float64))
    rows = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(carry(rows, anchors, anchors @ rotation + 3), rows @ rotation + 3)


def test_landmark_pca_runs_between_tables_of_other_widths(model, donor):
    source, target, context = task(model, [*NEW_WORDS, "jij"], donor)
    rows = resolve("initializer", "landmark-pca")(source, target, context).values
    assert rows.shape == (len(target), 8)
    missing = target.surfaces.index(b"jij")
    torch.testing.assert_close(rows[missing], source.table[target.pieces[missing]].mean(0))


def test_subword_weights_rise_to_the_last_piece_in_the_input_and_to_the_first_in_the_head(model):
    _, target, context = task(model, ["adhj"])
    pieces = [target.old_tokenizer.pieces[i] for i in target.pieces[0]]
    assert pieces == ["ad", "##h", "##j"]

    def weights(combine, role):
        source = task(model, ["adhj"], role=role)[0]
        graft = resolve("initializer", "subword", {"combine": combine})(source, target, context)
        return {source.tokenizer.pieces[i]: w for i, w in graft.explain(0)}

    assert weights("weighted_mean", "input") == pytest.approx({"ad": 1 / 6, "##h": 2 / 6, "##j": 3 / 6})
    assert weights("weighted_mean", "head") == pytest.approx({"ad": 3 / 6, "##h": 2 / 6, "##j": 1 / 6})
    assert weights("sum", "input") == {"ad": 1, "##h": 1, "##j": 1}
    assert weights("first_last", "input") == {"##j": 1}
    assert weights("first_last", "head") == {"ad": 1}
