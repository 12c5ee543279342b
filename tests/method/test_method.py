"""Methods by name: what a user types is found, corrected, or refused in one line that says what would be accepted."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from typing import Annotated, Any, ClassVar, Literal

import pytest
import torch
from pydantic import Field, ValidationError
from sklearn.base import BaseEstimator, TransformerMixin, clone
from torch import nn
from torchmetrics import Metric

import regraft
from regraft.errors import ParameterError
from regraft.method import (
    FAMILIES,
    Described,
    Family,
    Method,
    Paper,
    configure,
    list_methods,
    listing,
    members,
    parameters,
    parse_settings,
    registry,
    resolve,
)

INITIALIZERS = [
    "align",
    "constituent-exponential",
    "constituent-mean",
    "mean",
    "merge",
    "multivariate",
    "normal",
    "transformers-default",
    "univariate",
    "zip-tie",
]


class KTokeniser(Method):
    """A method as a paper names it."""

    family: ClassVar[str] = "test"
    paper = Paper("On Ks", "Doe et al.", 2020, url="https://example.org/k")
    summary = "for tests"

    k: Annotated[int, Field(ge=1, le=9)] = 3
    mode: Literal["none", "all"] = "all"
    share: float | None = 0.5


def refusal(name, settings):
    with pytest.raises(ParameterError) as caught:
        resolve("initializer", name, settings)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


class TestNames:
    def test_every_start_of_the_design_is_there(self):
        assert {cls.name for cls in list_methods("initializer")} >= set(INITIALIZERS)

    def test_class_names_become_slugs(self):
        assert KTokeniser.name == "k-tokeniser"

    @pytest.mark.parametrize("name", ["zip-tie", "zip_tie", "ZIP-TIE", " zip-tie ", "Zip_Tie"])
    def test_spellings_of_one_name(self, name):
        assert resolve("initializer", name).name == "zip-tie"

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [("ziptie", "zip-tie"), ("univariat", "univariate"), ("constituent", "constituent-mean"), ("merg", "merge"), ("aling", "align")],
    )
    def test_near_misses_are_suggested(self, typed, meant):
        message = refusal(typed, {})
        assert f"unknown initializer '{typed}'" in message
        assert meant in message
        assert "regraft methods" in message

    def test_far_misses_list_everything(self):
        message = refusal("qqqq", {})
        assert all(name in message for name in INITIALIZERS)

    def test_unknown_family(self):
        with pytest.raises(ParameterError, match=r"unknown family 'nope': choose one of .*initializer"):
            members("nope")

    def test_the_abstract_base_is_not_a_method(self):
        assert "initializer" not in {cls.name for cls in members("initializer")}


class TestRecords:
    @pytest.mark.parametrize("cls", list(list_methods()), ids=lambda cls: cls.name)
    def test_each_says_where_it_comes_from(self, cls):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cls.name)
        assert cls.family in FAMILIES
        assert cls.paper.title
        assert cls.paper.authors
        assert 1950 < cls.paper.year < 2100
        assert cls.paper.authors == "The regraft authors" or cls.paper.link.startswith("https://")
        assert cls.summary
        assert len(cls.summary) <= 80
        assert not cls.summary.endswith(".")
        assert not cls.__doc__.startswith(f"{cls.__name__}("), "the docstring is the one that dataclasses make up"
        told = "\n".join(base.__doc__ or "" for base in cls.__mro__ if issubclass(base, Described))  # what a base declares it explains
        assert "Returns" in told
        for field in parameters(cls):
            assert re.search(rf"\b{field}\b[^\n]*:", told), f"{field} is not explained"

    @pytest.mark.parametrize("cls", [cls for cls in list_methods() if issubclass(cls, Method)], ids=lambda cls: cls.name)
    def test_each_is_frozen_and_keyword_only(self, cls):
        method = cls()
        with pytest.raises(ValidationError, match="positional"):
            cls(1)
        for field, default in cls.parameters().items():
            assert getattr(method, field) == default
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(method, field, default)
        assert method == cls()
        assert hash(method) == hash(cls())

    def test_paper_links(self):
        assert Paper("t", "a", 2020, "2001.00001").link == "https://arxiv.org/abs/2001.00001"
        assert KTokeniser.paper.link == "https://example.org/k"
        assert Paper("t", "a", 2020).link is None


class TestSettings:
    def test_are_set(self):
        assert resolve("initializer", "multivariate", {"c": 0.5}).c == 0.5
        assert resolve("initializer", "zip_tie", {"weights": "sum", "norm": "match_script"}).norm == "match_script"

    @pytest.mark.parametrize(
        ("name", "settings", "accepted"),
        [
            ("multivariate", {"c": -1.0}, "greater than or equal to 0"),
            ("multivariate", {"c": "wide"}, "number"),
            ("multivariate", {"c": float("nan")}, "finite|greater"),
            ("multivariate", {"c": float("inf")}, "finite"),
            ("normal", {"std": -0.1}, "greater than or equal to 0"),
            ("normal", {"std": float("inf")}, "finite"),
            ("constituent-exponential", {"rate": 0}, "greater than 0"),
            ("constituent-exponential", {"head": "middle"}, "'last' or 'first'"),
            ("zip-tie", {"weights": "exp"}, "'mean'.*'exp_last'.*'exp_first'.*'sum'"),
            ("zip-tie", {"norm": True}, "'none' or 'match_script'"),
            ("align", {"consider_mean": "maybe"}, "boolean"),
            ("align", {"input": ["align"]}, "'align' or 'merge'"),
        ],
    )
    def test_refusals_name_field_value_and_range(self, name, settings, accepted):
        message = refusal(name, settings)
        (field, value), = settings.items()  # fmt: skip
        assert message.startswith(f"{name}: {field}={value!r}")
        assert re.search(accepted, message)

    def test_unknown_fields_name_the_known_ones(self):
        message = refusal("align", {"considermean": True})
        assert "align has no parameter 'considermean'" in message
        assert all(field in message for field in ("consider_mean", "align_only", "input", "head"))
        assert refusal("mean", {"c": 1}) == "mean has no parameter 'c': it has no parameters"

    def test_class_attributes_are_not_settings(self):
        for field in ("name", "paper", "summary", "separate_head", "family"):
            assert f"no parameter '{field}'" in refusal("zip-tie", {field: "x"})

    def test_none_is_a_word_where_the_field_knows_it_and_no_value_where_it_does_not(self):
        assert configure(KTokeniser, {"mode": "none"}).mode == "none"
        assert configure(KTokeniser, {"share": "none"}).share is None
        assert resolve("initializer", "normal", {"std": "none"}).std is None
        assert "multivariate: c=None is not accepted" in refusal("multivariate", {"c": "none"})

    def test_bounds_on_both_sides(self):
        for value in (0, 10, 2.5):
            with pytest.raises(ParameterError, match=f"k={value}"):
                configure(KTokeniser, {"k": value})
        assert configure(KTokeniser, {"k": 9}).k == 9


class TestParse:
    @pytest.mark.parametrize(
        ("pair", "value"),
        [
            ("c=1e-5", 1e-5),
            ("c=1E+3", 1000.0),
            ("c=.5e-1", 0.05),
            ("c=0.25", 0.25),
            ("c=-3", -3),
            ("c=none", "none"),
            ("c=None", "none"),
            ("c=null", None),
            ("c=true", True),
            ("c=False", False),
            ("c=match_script", "match_script"),
            ("c=[1, 2]", [1, 2]),
            ("c=[q, v]", ["q", "v"]),
            ("c=a=b", "a=b"),
            ("c= 7 ", 7),
            ("c='7'", "7"),
        ],
    )
    def test_values(self, pair, value):
        found = parse_settings([pair])["c"]
        assert found == value
        assert type(found) is type(value)

    def test_many_pairs(self):
        assert parse_settings(["a=1", "b=x", "a=2"]) == {"a": 2, "b": "x"}
        assert parse_settings([]) == {}

    @pytest.mark.parametrize("pair", ["c", "=1", " =1", "", "c=[1,", 'c="', "c={a: b: c}", "c=@x"])
    def test_what_cannot_be_read_is_shown(self, pair):
        with pytest.raises(ParameterError, match=r"--set ") as caught:
            parse_settings([pair])
        assert f"--set {pair}" in str(caught.value)
        assert "\n" not in str(caught.value)


class Halving(Described, nn.Module):
    """A module of PyTorch, as a table is."""

    family = "test"
    paper = Paper("Halves", "Doe et al.", 2021)
    summary = "for tests"

    def __init__(
        self, dim: Annotated[int, Field(ge=1)], share: Annotated[float, Field(gt=0, lt=1)] = 0.5, mode: str | None = "sum"
    ) -> None:
        super().__init__()
        self.dim, self.share, self.mode = dim, share, mode
        self.weight = nn.Parameter(torch.zeros(dim))


class Shift(Described, TransformerMixin, BaseEstimator):
    """An estimator of scikit-learn, as an aligner is."""

    family = "test"
    paper = Paper("Shifts", "Doe et al.", 2022)
    summary = "for tests"

    def __init__(self, *, steps: Annotated[int, Field(ge=1)] = 2, start: Literal["zero", "mean"] = "zero") -> None:
        self.steps, self.start = steps, start


class Count(Described, Metric):
    """A metric of torchmetrics, as a probe is."""

    family = "test"
    paper = Paper("Counts", "Doe et al.", 2023)
    summary = "for tests"

    def __init__(self, top: Annotated[int, Field(ge=1)] = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.top = top
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, values: torch.Tensor) -> None:
        self.seen += len(values)

    def compute(self) -> torch.Tensor:
        return self.seen


class TestHostTypes:
    """A host library's own class is listed, configured and refused as an initializer is."""

    CASES: ClassVar = [(Halving, {"dim": 3}, "share"), (Shift, {}, "steps"), (Count, {}, "top")]

    def test_they_carry_a_card(self):
        assert [cls.name for cls, *_ in self.CASES] == ["halving", "shift", "count"]
        assert all(cls.needs == () and cls.paper.link is None for cls, *_ in self.CASES)

    def test_parameters_are_those_with_defaults_in_order(self):
        assert parameters(Halving) == {"share": 0.5, "mode": "sum"}
        assert parameters(Shift) == {"steps": 2, "start": "zero"}
        assert parameters(Count) == {"top": 1}

    @pytest.mark.parametrize(("cls", "given", "field"), CASES)
    def test_settings_are_checked_as_annotated(self, cls, given, field):
        assert getattr(configure(cls, given), field) == parameters(cls)[field]
        with pytest.raises(ParameterError, match=rf"^{cls.name}: {field}=-1 is not accepted: input should be greater than"):
            configure(cls, given | {field: -1})
        with pytest.raises(ParameterError, match=rf"^{cls.name} has no parameter 'nope': it accepts .*{field}"):
            configure(cls, given | {"nope": 1})

    def test_words_are_read_as_the_field_means_them(self):
        assert configure(Halving, {"dim": 3, "mode": "none"}).mode == "none"
        assert configure(Shift, {"steps": "3"}).steps == 3
        with pytest.raises(ParameterError, match=r"^shift: start='far' is not accepted: input should be 'zero' or 'mean'"):
            configure(Shift, {"start": "far"})
        with pytest.raises(ParameterError, match=r"^halving needs 'dim'"):
            configure(Halving, {})

    def test_they_stay_what_the_host_makes_of_them(self):
        again = clone(configure(Shift, {"start": "mean"}))
        assert again.get_params() == {"start": "mean", "steps": 2}
        assert [name for name, _ in configure(Halving, {"dim": 3}).named_parameters()] == ["weight"]
        assert Count(top=2, sync_on_compute=False).top == 2


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A family of three files, of which one wants a package that nobody has."""
    folder = tmp_path / "shapes_family"
    folder.mkdir()
    head = "from regraft.method import Described, Paper\n"
    base = head + "class Shape(Described):\n    family, paper = 'shape', Paper('Shapes', 'Doe', 2020)\n"
    (folder / "__init__.py").write_text(base)
    member = "from regraft.shapes_family import Shape\nclass {name}(Shape):\n    summary = 'a shape'\n"
    (folder / "round_shape.py").write_text(member.format(name="RoundShape"))
    (folder / "others.py").write_text(member.format(name="Flat"))
    (folder / "deep.py").write_text("import hypergeometry\n" + member.format(name="Deep"))
    monkeypatch.setattr(regraft, "__path__", [*regraft.__path__, str(tmp_path)])
    family = Family(key="shape", module="shapes_family", base="Shape", summary="shapes", example="regraft shape {name}")
    monkeypatch.setitem(FAMILIES, "shape", family)
    yield
    for name in [name for name in sys.modules if name.startswith("regraft.shapes_family")]:
        del sys.modules[name]


class TestFolders:
    @pytest.mark.usefixtures("shapes")
    def test_a_method_comes_from_the_file_called_like_it_alone(self):
        assert resolve("shape", "round_shape").name == "round-shape"
        assert "regraft.shapes_family.others" not in sys.modules

    @pytest.mark.usefixtures("shapes")
    def test_else_the_whole_folder_is_looked_through(self):
        assert resolve("shape", "flat").name == "flat"
        assert "regraft.shapes_family.round_shape" in sys.modules

    @pytest.mark.usefixtures("shapes")
    def test_a_missing_package_is_one_line_and_the_others_are_there(self):
        with pytest.raises(ParameterError, match=r"^deep needs the package 'hypergeometry': pip install hypergeometry$"):
            resolve("shape", "deep")
        assert [cls.name for cls in list_methods("shape")] == ["flat", "round-shape"]

    def test_an_extra_of_ours_is_named(self):
        assert registry._install("gensim") == "pip install 'regraft[vectors]'"
        assert registry._install("pyarrow") == "pip install 'regraft[data]'"


def test_listing_again_imports_no_method(tmp_path):
    code = "import json, sys; from regraft.method import listing as l; print(json.dumps([l.list_cards(), 'torch' in sys.modules]))"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    first, second = (
        json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment).stdout) for _ in range(2)
    )
    assert first[1]
    assert not second[1]
    assert first[0] == second[0]
    assert [row["method"] for row in second[0]] == [cls.name for cls in list_methods()]


def test_a_change_of_any_file_lists_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_file", lambda: tmp_path / "methods.json")
    rows = listing.list_cards()
    kept = json.loads((tmp_path / "methods.json").read_text())
    kept["rows"] = kept["rows"][:2]
    (tmp_path / "methods.json").write_text(json.dumps(kept))
    assert len(listing.list_cards()) == 2
    monkeypatch.setattr(listing, "_stamp", lambda: "another")
    assert listing.list_cards() == rows
    (tmp_path / "methods.json").write_text("not JSON")
    assert listing.list_cards("initializer") == [row for row in rows if row["family"] == "initializer"]
    with pytest.raises(ParameterError, match="unknown family 'nope'"):
        listing.list_cards("nope")
