"""Observatory: which properties of the relational model do an encoder's vectors of tables respect?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from regraft.errors import ParameterError
from regraft.method import Method, Paper
from regraft.probe.probe import Probe
from regraft.probe.probes.observatory.aids import Aids
from regraft.probe.probes.observatory.encoder import Encoder, ModelEncoder
from regraft.probe.probes.observatory.properties.base import Collection, Floats, Found, Property
from regraft.probe.probes.observatory.properties.column_order import ColumnOrder
from regraft.probe.probes.observatory.properties.context import Context
from regraft.probe.probes.observatory.properties.dependency import Dependency
from regraft.probe.probes.observatory.properties.entity import Entity
from regraft.probe.probes.observatory.properties.join import Join
from regraft.probe.probes.observatory.properties.perturbation import Perturbation
from regraft.probe.probes.observatory.properties.row_order import RowOrder
from regraft.probe.probes.observatory.properties.sample import Sample
from regraft.probe.probes.observatory.serialise import Level
from regraft.probe.probes.observatory.tables import Table
from regraft.progress import Bar, progress_bar, step

PROPERTIES: dict[str, type[Property]] = {
    cls.key: cls for cls in (RowOrder, ColumnOrder, Join, Dependency, Sample, Entity, Perturbation, Context)
}
Count = Annotated[int, Field(ge=1)]
Chunks = Annotated[int, Field(ge=1)] | None


@dataclass(frozen=True)
class Observation:
    """`found[encoder][property]`; of `entity` by pairs in `pairs[a, b]`. `properties` as they were set."""

    found: dict[str, dict[str, Found]]
    pairs: dict[tuple[str, str], Found]
    properties: dict[str, Property]


class Observatory(Method, Probe):
    r"""Eight properties of relational tables, measured on the vectors of any encoder, without training.

    P1 row order, P2 column order: cosine of vectors with those of the original order, and the coefficient of variation
    :math:`\gamma = \sqrt{\mu^\top \Sigma \mu / (\mu^\top \mu)^2}` over all orders. P3 joins: Spearman's correlation of cosine and value
    overlap. P4 functional dependencies: variance of :math:`\lVert E(x) - E(y) \rVert_2` within groups. P5 samples of rows. P6 entity
    stability between encoders. P7 other names and notations. P8 context. Each in its file in `properties`.

    Encoders are given the same rows of each table, the leading ones that fit all of them, found once on the original order.

    Parameters
    ----------
    properties : which, by key; all by default. levels : of vectors in P1 and P2.
    permutations, samples, fractions : orders of P1 and P2; samples of P5, of which shares of the rows; the paper draws 1,000 of each.
    window, normalise, fd_rows : of P4: rows to either side; distances by their mean; rows that are searched for dependencies.
    neighbours, queries : of P6: each K; how many cells.
    chunks : of long columns in P3 and P8: at most so many chunks of rows; None for all, as the paper.
    most : columns, pairs of columns and the like in P3 and P8, at most, by draw. draws : of intervals; 0 for none.
    compat : "released" does as the authors' code where it parts from the paper: P1 keeps as many rows as there are columns, P4 counts
        groups of one row as 0, P6 counts the query among its neighbours. Not copied: special tokens as text, the context left over in P8.
    seed : of everything that is drawn. INFERRED by the paper's readers: `permutations`, `window` and P4's statistic, from the code.

    Returns an `Observation`: outcomes, each with a `Measurement` and its raw values. Raises `ParameterError` for an unknown property.
    """

    paper = Paper(
        "Observatory: Characterizing Embeddings of Relational Tables", "Cong et al.", 2024, "2310.07736",
    )  # fmt: skip
    summary = "eight properties of relational tables in an encoder's vectors"

    properties: tuple[str, ...] = tuple(PROPERTIES)
    levels: tuple[Level, ...] = ("column",)
    permutations: Count = 50
    samples: Count = 50
    fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.25, 0.5, 0.75)
    window: Annotated[int, Field(ge=0)] = 2
    normalise: bool = False
    fd_rows: Count = 1000
    neighbours: tuple[Count, ...] = (1, 5, 10)
    queries: Count = 1000
    chunks: Chunks = 8
    most: Count = 500
    draws: Annotated[int, Field(ge=0)] = 500
    compat: Literal["paper", "released"] = "paper"
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.properties if name not in PROPERTIES]
        if unknown:
            raise ParameterError(f"no property '{unknown[0]}': choose all or some of {', '.join(PROPERTIES)}")

    def build(self, aids: Aids) -> dict[str, Property]:
        """The properties that were asked for, in the paper's order."""
        drawn: dict[str, Any] = {"draws": self.draws, "seed": self.seed}
        old = {"released": self.compat == "released"}
        order = {"permutations": self.permutations, "levels": self.levels, **old, **drawn}
        made: list[Property] = [
            RowOrder(**order),
            ColumnOrder(**order),
            Join(pairs=aids.joins, samples=self.most, chunks=self.chunks, **drawn),
            Dependency(window=self.window, rows=self.fd_rows, normalise=self.normalise, **old, **drawn),
            Sample(fractions=self.fractions, samples=self.samples, **drawn),
            Entity(queries=self.queries, neighbours=self.neighbours, **old, **drawn),
            Perturbation(synonyms=aids.synonyms, **drawn),
            Context(types=aids.types, samples=self.most, chunks=self.chunks, **drawn),
        ]
        return {one.key: one for one in made if one.key in self.properties}

    def measure(self, encoder: Encoder, tables: Sequence[Table], aids: Aids | None = None) -> dict[str, Found]:
        """What was found of one encoder, by property."""
        return self.compare([encoder], tables, aids).found[encoder.name]

    def compare(self, encoders: Sequence[Encoder], tables: Sequence[Table], aids: Aids | None = None) -> Observation:
        """Every property for every encoder, on the same rows; stability between each two. Names of encoders must differ."""
        names = [encoder.name for encoder in encoders]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ParameterError(f"two encoders are called '{twice}': give each a name of its own")
        if not tables:
            raise ParameterError("no tables: give at least one")
        collection, properties = Collection(tuple(tables), tuple(encoders)), self.build(aids or Aids())
        costs = {key: one.cost(collection) for key, one in properties.items()}
        found: dict[str, dict[str, Found]] = {}
        spaces: dict[str, Floats] = {}
        with progress_bar("tables", total=len(encoders) * sum(costs.values()), unit="tables") as bar:
            for encoder in encoders:
                with step(f"{encoder.name}: {sum(costs.values()):,} tables to encode{_estimate(encoder, collection, sum(costs.values()))}"):
                    found[encoder.name] = self._one(encoder, collection, properties, spaces, costs, bar)
                getattr(encoder, "release", lambda: None)()
        entity = properties.get(Entity.key)
        pairs = entity.compare(spaces, collection) if isinstance(entity, Entity) and len(spaces) > 1 else {}
        return Observation(found, pairs, properties)

    def _one(
        self,
        encoder: Encoder,
        tables: Collection,
        properties: dict[str, Property],
        spaces: dict[str, Floats],
        costs: dict[str, int],
        bar: Bar,
    ) -> dict[str, Found]:
        """Every property of one encoder; its cells go into `spaces`."""
        found = {}
        for key, one in properties.items():
            bar.say(f"{encoder.name}: {one.title.lower()}")
            if isinstance(one, Entity) and "cell" in encoder.levels:
                spaces[encoder.name] = one.space(encoder, tables)
            if not isinstance(one, Entity) or len(tables.encoders) == 1:
                found[key] = one.measure(encoder, tables)
            bar.advance(costs[key])
        return found


def _estimate(encoder: Encoder, tables: Collection, count: int) -> str:
    """How long a model may take for `count` tables, by one of them; "" where it is not worth a word."""
    level = encoder.levels[0]
    fitted = tables.fitted(level)[0]
    if not fitted or not isinstance(encoder, ModelEncoder):
        return ""
    encoder.embed(fitted[:1], level)  # loads the model
    start = time.perf_counter()
    encoder.embed([fitted[-1].take_rows(reversed(range(len(fitted[-1]))))], level)
    seconds = (time.perf_counter() - start) * count
    return f", at most about {seconds / 60:.0f} min" if seconds >= 60 else f", at most about {seconds:.0f} s" if seconds >= 2 else ""
