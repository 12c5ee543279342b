"""Each property on encoders whose answer is known, and where the released code went another way."""

import math

import numpy as np
import pytest
import torch

from regraft.errors import InputError, ParameterError
from regraft.method import resolve
from regraft.probe.probe import Measurement
from regraft.probe.probes.observatory import Aids, FunctionEncoder, Observatory, StaticEncoder, Table
from regraft.probe.probes.observatory.encoder import ModelEncoder, pooled
from regraft.probe.probes.observatory.properties.base import Collection
from regraft.probe.probes.observatory.properties.context import Context
from regraft.probe.probes.observatory.properties.dependency import Dependency
from regraft.probe.probes.observatory.properties.entity import Entity
from regraft.probe.probes.observatory.properties.join import Join, Pair, pairs_by_overlap
from regraft.probe.probes.observatory.properties.permuted import distinct_orders, put_back
from regraft.probe.probes.observatory.properties.perturbation import Change, Perturbation, abbreviate
from regraft.probe.probes.observatory.properties.sample import Sample, distinct_samples
from regraft.probe.probes.observatory.serialise import LEVELS, Serialiser
from toys import models

CITIES = Table(
    "cities",
    ("city", "country", "people", "river"),
    (
        ("Rome", "Italy", "2800000", "Tiber"), ("Pisa", "Italy", "90000", "Arno"), ("Lyon", "France", "520000", "Rhone"),
        ("Nice", "France", "340000", "Paillon"), ("Rome", "Italy", "2800001", "Aniene"), ("Lyon", "France", "520001", "Saone"),
    ),
)  # fmt: skip
RIVERS = Table("rivers", ("name", "land"), (("Tiber", "Italy"), ("Arno", "Italy"), ("Rhone", "France"), ("Elbe", "Germany")))
TABLES = [CITIES, RIVERS]
WORDS = {cell: n for n, cell in enumerate(sorted({c for t in TABLES for row in (t.header, *t.rows) for c in row}))}


def vector(text):
    return np.random.default_rng(sum(text.encode()) + 1000 * len(text)).normal(size=6) + 0.5


def bag():
    """Static vectors of whole cells."""
    return StaticEncoder(lambda texts: [[WORDS.setdefault(t, len(WORDS))] for t in texts], np.random.default_rng(0).normal(size=(400, 6)))


def first_row(table):
    return np.stack([vector(column[0]) for column in table.columns])


def run(encoder, *keys, tables=TABLES, aids=None, **settings):
    return Observatory(properties=keys, draws=20, **settings).measure(encoder, tables, aids)


def value(found, setting, measure):
    return found.get(setting, measure).measurement.value


@pytest.mark.parametrize("key", ["row-order", "column-order"])
@pytest.mark.parametrize("level", LEVELS)
def test_an_order_free_encoder_has_exactly_one_and_zero(key, level):
    found = run(bag(), key, permutations=20, levels=(level,))[key]
    assert (found.get(level, "cosine").values == 1).all()
    assert (found.get(level, "MCV").values == 0).all()
    assert found.get(level, "cosine").quantiles["0.05"] == 1


def test_an_encoder_of_the_first_row_minds_the_order_of_rows_alone():
    found = run(FunctionEncoder(first_row), "row-order", "column-order", permutations=20)
    rows, columns = (found[key].get("column", "cosine") for key in ("row-order", "column-order"))
    assert rows.measurement.value < 0.95
    assert (columns.values == 1).all()
    assert value(found["row-order"], "column", "MCV") > 0.05
    assert isinstance(rows.measurement, Measurement)
    low, high = rows.measurement.interval
    assert low <= rows.measurement.value <= high
    assert set(rows.tables) == {"cities", "rivers"}
    assert len(rows.values) == 20 * (4 + 2)


def test_orders_are_distinct_all_where_few_and_are_undone():
    assert len(list(distinct_orders(3, 50, 0))) == 5
    some = [tuple(order) for order in distinct_orders(12, 40, 0)]
    assert len(set(some)) == 40
    assert tuple(range(12)) not in some
    assert some == [tuple(order) for order in distinct_orders(12, 40, 0)]
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    order = np.array(some[0])
    assert (put_back(vectors[order], order) == vectors).all()


def test_vectors_are_put_back_where_they_were():
    by_text = {
        "column": lambda t: np.stack([vector(name) for name in t.header]),
        "row": lambda t: np.stack([vector("".join(row[:1])) if t.header[0] == "city" else vector("".join(sorted(row))) for row in t.rows]),
        "cell": lambda t: np.stack([np.stack([vector(c) for c in line]) for line in (t.header, *t.rows)]),
    }
    found = run(FunctionEncoder(by_text), "row-order", "column-order", permutations=30, levels=("column", "row", "cell"))
    for key, level in (("row-order", "row"), ("row-order", "cell"), ("column-order", "column"), ("column-order", "cell")):
        assert (found[key].get(level, "cosine").values == 1).all(), (key, level)


def test_released_row_order_keeps_as_many_rows_as_there_are_columns():
    seen = []

    def note(table):
        seen.append(len(table))
        return first_row(table)

    run(FunctionEncoder(note), "row-order", permutations=3, compat="released", tables=[CITIES])
    assert set(seen) == {CITIES.width}
    seen.clear()
    run(FunctionEncoder(note), "row-order", permutations=3, tables=[CITIES])
    assert set(seen) == {len(CITIES)}


def test_a_sample_of_all_rows_is_the_table():
    found = Sample(fractions=(0.5, 1.0), samples=30, draws=0).measure(FunctionEncoder(first_row), Collection((CITIES,), ()))
    assert (found.get("100 %", "cosine").values == 1).all()
    assert value(found, "50 %", "cosine") < 1
    assert len(found.get("50 %", "cosine").values) == 4 * math.comb(6, 3)
    samples = list(distinct_samples(CITIES, 0.5, 10, 0))
    assert all(rows == sorted(rows) and len(rows) == 3 for rows in samples)
    assert len({tuple(rows) for rows in samples}) == 10


def translation(table):
    """Cells where the step from a city to its country has one length for each city, wherever it stands."""
    place = {name: j for j, name in enumerate(table.header)}
    cells = np.stack([np.stack([vector(cell) for cell in line]) for line in (table.header, *table.rows)])
    rows = np.random.default_rng(len(table)).normal(size=(len(table), 6))  # context moves both alike
    cells[1:, place["city"]] += rows
    cells[1:, place["country"]] = cells[1:, place["city"]] + 3.0
    return cells


def test_a_dependency_that_is_a_translation_varies_by_exactly_nothing():
    whole = [(0.25 * np.arange(24)).reshape(4, 6)]

    def exact(table):
        cells = translation(table).round(2)
        cells[1:, 1] = cells[1:, 0] * 0 + whole[0][0]
        cells[1:, 0] = cells[1:, 1] - 3.0
        return cells

    found = Dependency(draws=20).measure(FunctionEncoder({"cell": exact}), Collection((CITIES,), ()))
    values = found.get("FD", "variance")
    mine = [v for item, v in zip(values.items, values.values, strict=True) if item == "city → country"]
    assert mine == [0.0, 0.0]
    by_context = Dependency(draws=20).measure(FunctionEncoder({"cell": translation}), Collection((CITIES,), ()))
    moved = by_context.get("no FD", "variance")
    assert moved.measurement.value == pytest.approx(moved.values.mean())
    assert moved.measurement.value > 0.01
    assert 0.5 < value(by_context, "FD against none", "rank") <= 1


def test_dependencies_take_columns_of_text_and_groups_of_two():
    holds, fails = Dependency().dependencies(CITIES)
    assert holds == [(0, 1)]  # not the numbers, not the key
    assert fails == [(0, 3)]
    measure = Dependency(draws=0).measure(bag(), Collection((CITIES,), ()))
    assert len(measure.get("FD", "variance").values) == 2  # Rome and Lyon
    released = Dependency(draws=0, released=True).measure(bag(), Collection((CITIES,), ()))
    assert len(released.get("FD", "variance").values) == 4
    nothing = Dependency().measure(bag(), Collection((RIVERS.take_rows([0, 2]),), ()))
    assert nothing.notes[0].startswith("not measured: no table has a dependency")
    columns_only = Dependency().measure(FunctionEncoder(first_row), Collection((CITIES,), ()))
    assert "gives no vectors of cells" in columns_only.notes[0]


def test_normalised_distances_do_not_know_the_scale():
    scaled = FunctionEncoder({"cell": lambda t: 5 * translation(t)})
    plain = FunctionEncoder({"cell": translation})
    both = [Dependency(draws=0, normalise=True).measure(one, Collection((CITIES,), ())) for one in (plain, scaled)]
    assert value(both[0], "no FD", "variance") == pytest.approx(value(both[1], "no FD", "variance"))
    raw = [Dependency(draws=0).measure(one, Collection((CITIES,), ())) for one in (plain, scaled)]
    assert value(raw[1], "no FD", "variance") == pytest.approx(25 * value(raw[0], "no FD", "variance"))


def test_a_window_shrinks_until_it_fits():
    seen = []

    def cells(table):
        seen.append(len(table))
        return translation(table)

    tight = FunctionEncoder({"cell": cells}, most_rows=3)
    Dependency(window=2, draws=0).measure(tight, Collection((CITIES,), (tight,)))
    assert max(seen) == 3
    none = FunctionEncoder({"cell": cells}, most_rows=0)
    found = Dependency(window=2, draws=0).measure(none, Collection((CITIES,), (none,)))
    assert found.skipped["rows that do not fit"] == 4


def test_joins_are_found_by_values_and_ranked():
    pairs = pairs_by_overlap(TABLES)
    assert {(p.left, p.right) for p in pairs} == {((0, 1), (1, 1)), ((1, 0), (0, 3))}  # the fewer values first
    base = [f"w{i}" for i in range(40)]
    tables = [Table("whole", ("x", ""), tuple((w, "") for w in base))]
    tables += [
        Table(f"part {k}", ("x", ""), tuple((w, "") for w in base[: 5 * k] + [f"z{k}{i}" for i in range(40 - 5 * k)])) for k in range(9)
    ]
    given = tuple(Pair((k, 0), (0, 0), quality=k / 9) for k in range(1, 10))

    def shares(table):
        return np.stack([np.array([1.0, *[float(w in column) for w in base]]) for column in table.columns])

    found = Join(pairs=given, chunks=None, neighbours=0, draws=50).measure(FunctionEncoder(shares), Collection(tuple(tables), ()))
    for name in ("containment", "Jaccard", "multiset Jaccard", "given quality"):
        assert value(found, name, "Spearman") == pytest.approx(1)
    assert found.get("containment", "Spearman").beside["overlap"][0] == 0
    assert "only 9 pairs" in found.get("containment", "Spearman").measurement.notes[0]
    assert Join().measure(bag(), Collection((CITIES,), ())).notes[0].startswith("not measured: no two tables share values")


def test_long_columns_are_encoded_in_chunks_with_their_neighbours():
    seen = []

    def columns(table):
        seen.append((len(table), table.width))
        return np.stack([np.array([1.0, len(column)]) for column in table.columns])

    long = Table("long", ("a", "b", "c", "d"), tuple((f"r{i}",) * 4 for i in range(100)))
    other = Table("other", ("a",), tuple((f"r{i}",) for i in range(100)))
    Join(chunks=None).measure(FunctionEncoder(columns), Collection((long, other), ()))
    assert (512 // (3 * 20), 3) in seen
    assert (512 // (2 * 20), 2) in seen  # the first column has a neighbour on one side
    assert (512 // 20, 1) in seen


def test_stability_of_a_space_with_itself_and_by_rotation():
    encoder, collection = bag(), Collection((CITIES, RIVERS), ())
    entity = Entity(neighbours=(1, 3), draws=20)
    space = entity.space(encoder, collection)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    noise = np.random.default_rng(2).normal(size=space.shape)
    found = entity.compare({"a": space, "b": space, "c": 3 * space @ rotation, "d": noise}, collection)
    assert (found["a", "b"].get("K = 3", "overlap").values == 1).all()
    assert value(found["a", "c"], "K = 3", "id overlap") == 1
    assert value(found["a", "d"], "K = 1", "overlap") < 0.6
    broken = space.copy()
    broken[4] = np.nan
    assert entity.compare({"a": space, "b": broken}, collection)["a", "b"].skipped["cells without a vector in one of the spaces"] == 1
    assert "two encoders" in run(encoder, "entity")["entity"].notes[0]


def test_perturbation():
    assert not Perturbation(changes=()).measure(bag(), Collection((CITIES,), ())).outcomes
    found = run(bag(), "perturbation", tables=[CITIES], aids=Aids(synonyms={"city": ["town"]}))["perturbation"]
    assert {one.setting for one in found.outcomes} == {"abbreviation", "synonym", "equal values"}
    assert found.get("synonym", "cosine").items == ("city → town",)
    assert 0.5 < value(found, "synonym", "cosine") < 1
    same = Perturbation(changes=(Change(0, 1, "nothing", header="country"),)).measure(bag(), Collection((CITIES,), ()))
    assert value(same, "nothing", "cosine") == 1
    assert [abbreviate(name) for name in ("release_year", "ReleaseYear", "id", "GDP", "city or town", "")] == [
        "rls_yr", "RlsYr", "id", "GDP", "cty or twn", "",
    ]  # fmt: skip


def test_perturbation_cuts_all_variants_to_the_rows_that_fit_each():
    seen = []

    class Picky(FunctionEncoder):
        def fit_rows(self, table, level):
            return 2 if "town" in table.header else 5

    def columns(table):
        seen.append(len(table))
        return first_row(table)

    picky = Picky(columns)
    changes = (Change(0, 0, "synonym", header="town"), Change(0, 2, "equal values", cells=tuple("abcdef")))
    Perturbation(changes=changes).measure(picky, Collection((CITIES,), (picky,)))
    assert seen == [2, 2, 2]


def test_context():
    def mixed(table):
        assert set(table.header) == {""}
        assert len(table) <= 3
        own = np.stack([vector(column[0]) for column in table.columns])
        return own + 0.3 * (table.width - 1) * np.ones(6)

    found = run(FunctionEncoder(mixed), "context", chunks=None)["context"]
    assert len(found.get("subject column", "cosine").values) == 3 + 1  # the subject has none with itself
    assert len(found.get("neighbours", "cosine").values) == 4 + 2  # the first column has a neighbour too
    assert value(found, "whole table", "cosine") < 1
    assert found.notes == ["purity not measured: give --types FILE"]
    assert value(run(bag(), "context")["context"], "whole table", "cosine") == pytest.approx(1)
    types = {(0, 0): "place", (0, 1): "land", (0, 3): "river", (1, 0): "river", (1, 1): "land"}
    typed = Context(types=types, draws=20).measure(bag(), Collection((CITIES, RIVERS), ()))
    assert 3 / 5 <= value(typed, "alone", "purity") <= 1
    assert {one.setting for one in typed.outcomes if one.measure == "purity"} >= {"alone", "neighbours", "whole table"}


def test_every_encoder_sees_the_rows_that_fit_all():
    seen = {"a": set(), "b": set()}

    def noting(name):
        def columns(table):
            seen[name].add(len(table))
            return first_row(table)

        return columns

    encoders = [FunctionEncoder(noting("a"), name="a", most_rows=4), FunctionEncoder(noting("b"), name="b")]
    Observatory(properties=("row-order",), permutations=3).compare(encoders, [CITIES])
    assert seen == {"a": {4}, "b": {4}}
    with pytest.raises(ParameterError, match="two encoders are called 'a'"):
        Observatory().compare([encoders[0], encoders[0]], TABLES)


def test_what_an_encoder_must_give_is_said():
    with pytest.raises(ParameterError, match="where \\(4, 'd'\\) is asked"):
        run(FunctionEncoder(lambda table: np.ones((1, 3))), "row-order")
    with pytest.raises(ParameterError, match="no property 'rows': choose all or some of row-order, column-order, join"):
        resolve("probe", "observatory", {"properties": ["rows"]})
    with pytest.raises(InputError, match="row 1 has 1 cells for 2 columns"):
        Table("t", ("a", "b"), (("1", "2"), ("1",)))


@pytest.mark.parametrize("make", [models.wordpiece, models.tokenizer])
def test_serialisation_keeps_track_of_every_cell(make):
    tokenizer = make()
    serialiser = Serialiser(tokenizer, 256)
    table = Table("t", ("the cat", "", "hat"), (("sat on", "a mat", ""), ("[SEP] map", "the land", "old hat")))
    text = serialiser.serialise(table, "cell")
    marker = tokenizer.cls_token_id
    assert len(text.markers) == (3 if marker is not None else 0)
    assert all(text.ids[place] == marker for place in text.markers)
    if marker is not None:
        assert text.ids[-1] == tokenizer.sep_token_id
        assert text.ids.count(tokenizer.sep_token_id) == 1  # the one in a cell is text
    for column, ((start, stop), owners) in enumerate(zip(text.spans, text.cells, strict=True)):
        cells = [table.header[column], *table.columns[column]]
        for number, cell in enumerate(cells):
            ids = [i for i, owner in zip(text.ids[start:stop], owners, strict=True) if owner == number]
            assert tokenizer.decode(ids).replace(" ", "") == cell.replace(" ", "") or tokenizer.unk_token_id in ids, (cell, ids)
    states = np.random.default_rng(0).normal(size=(len(text.ids), 4)).astype(np.float32)
    vectors = pooled(states, text, "cell", table)
    assert vectors.shape == (3, 3, 4)
    assert np.isnan(vectors[[0, 1], [1, 2]]).all()  # no header, no cell
    assert np.isfinite(vectors).all(-1).sum() == 7
    start, stop = text.spans[0]
    assert vectors[1, 0] == pytest.approx(states[start:stop][text.cells[0] == 1].mean(0))


@pytest.mark.parametrize("make", [models.wordpiece, models.tokenizer])
@pytest.mark.parametrize("level", LEVELS)
def test_fit_is_the_largest_number_of_rows_that_fits(make, level):
    table = Table("t", ("cat", "mat"), tuple(("the cat sat", "on a mat") for _ in range(40)))
    serialiser = Serialiser(make(), 100)
    rows = serialiser.fit_rows(table, level)
    assert 0 < rows < 40
    assert len(serialiser.serialise(table.head(rows), level).ids) == serialiser.length(table.head(rows), level) <= 100
    assert serialiser.length(table.head(rows + 1), level) > 100
    cut = serialiser.serialise(table, level)
    assert len(cut.ids) == 100  # too long all the same: cut, and said
    assert cut.cut > 0
    wide = Table("w", tuple("ab" * 5000), (tuple("ab" * 5000),))
    assert serialiser.fit_rows(wide, level) == 0
    assert Serialiser(make(), 100).fit_rows(table.head(2), level) == 2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "bert"
    models.bert().save_pretrained(folder)
    models.wordpiece().save_pretrained(folder)
    return str(folder)


def test_a_model_encoder_reads_states_at_the_markers(checkpoint):
    encoder = ModelEncoder(checkpoint)
    table = Table("t", ("cat", "mat"), (("the hat", "on a rat"), ("past", "old map")))
    text = encoder.serialiser.serialise(table, "column")
    with torch.inference_mode():
        states = encoder.model.base_model(torch.tensor([text.ids])).last_hidden_state[0].numpy()
    found = encoder.embed([table, table.take_columns([1, 0])], "column")
    assert found[0] == pytest.approx(states[text.markers], abs=1e-5)
    assert not np.allclose(found[0], found[1][::-1], atol=1e-3)
    assert encoder.embed([table], "row")[0].shape == (2, 16)
    assert encoder.embed([table], "table")[0].shape == (1, 16)
    assert encoder.static().embed([table], "column")[0].shape == (2, 16)


def test_vectors_are_kept_on_disk(checkpoint, tmp_path):
    from regraft.probe.probes.observatory.cache import FILE, Cache

    table = Table("t", ("cat", "mat"), (("the hat", "on a rat"), ("past", "")))
    first = ModelEncoder(checkpoint, cache=Cache(tmp_path))
    vectors = first.embed([table, table.take_rows([1, 0])], "cell")
    assert first.encoded == 2
    again = ModelEncoder(checkpoint, cache=Cache(tmp_path))
    kept = again.embed([table.take_rows([1, 0]), table, table.take_columns([1, 0])], "cell")
    assert again.encoded == 1
    assert np.array_equal(kept[1], vectors[0], equal_nan=True)
    other = ModelEncoder(checkpoint, limit=64, cache=Cache(tmp_path))
    other.embed([table], "cell")
    assert other.encoded == 1  # cut at another length: other vectors
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / FILE).write_text("no data base" * 100)
    with pytest.raises(InputError, match="choose another folder with --cache"):
        Cache(tmp_path / "bad")


def test_a_decoder_and_an_encoder_decoder(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    from toys.directory import save_decoder

    table = Table("t", ("cat", "mat"), (("the hat", "on a rat"), ("past", "")))
    decoder = ModelEncoder(str(save_decoder(tmp_path / "llama")))
    assert "mean over its tokens" in decoder.notes[0]
    text = decoder.serialiser.serialise(table, "column")
    with torch.inference_mode():
        states = decoder.model.base_model(torch.tensor([text.ids])).last_hidden_state[0].numpy()
    assert text.ids[0] == decoder.serialiser.tokenizer.bos_token_id
    start, stop = text.spans[1]
    assert decoder.embed([table], "column")[0][1] == pytest.approx(states[start:stop].mean(0), abs=1e-5)
    torch.manual_seed(0)
    config = T5Config(vocab_size=304, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    models.tokenizer().save_pretrained(tmp_path / "t5")
    both = ModelEncoder(str(tmp_path / "t5"))
    assert both.embed([table], "column")[0].shape == (2, 16)
    assert any("encoder-decoder" in note for note in both.notes)
