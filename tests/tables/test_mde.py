"""MDE: widths by the closed form, the map to the full width, budgets over several fields."""

import pytest
import torch

from regraft.errors import ParameterError
from regraft.tables.embeddings.mde import MdeEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.widths.by_field import apart, field_of, starts_of

FIELDS = (884, 4082, 7, 75)


def table(**settings):
    torch.manual_seed(0)
    return MdeEmbedding(sum(FIELDS), 16, fields=FIELDS, **settings)


def test_ids_come_apart_by_field():
    ids, starts = torch.tensor([883, 0, 884, 4972, 5047, 884]), starts_of(FIELDS)
    assert field_of(ids, starts).tolist() == [0, 0, 1, 2, 3, 1]
    found = {field: (places.tolist(), own.tolist()) for field, places, own in apart(ids, starts)}
    assert found == {0: ([0, 1], [883, 0]), 1: ([2, 5], [0, 0]), 2: ([3], [6]), 3: ([4], [74])}


def test_exponent_zero_gives_the_full_width_and_no_map():
    plain = table(alpha=0.0)
    assert plain.widths == (16,) * 4
    assert plain.memory().serving_words == sum(FIELDS) * 16
    ids = torch.tensor([5, 900, 4970, 5000])
    wanted = [plain.tables[f][i - s] for f, i, s in zip(range(4), ids.tolist(), starts_of(FIELDS).tolist(), strict=True)]
    assert torch.equal(plain(ids), torch.stack(wanted))


def test_widths_by_the_closed_form():
    free = table(alpha=0.3, round_dim=False)
    assert free.widths == tuple(round(16 * (7 / n) ** 0.3) if n != 7 else 16 for n in FIELDS) == (4, 2, 16, 8)
    assert table(alpha=0.2).widths == (8, 4, 16, 8)  # 6.08, 4.48, 16 and 9.96, to the nearest power of two
    assert table(alpha=1.0).widths == (1, 1, 16, 1)
    assert MdeEmbedding(1000, 16, alpha=0.3).widths == (2,)  # a field of its own: 16 * 1000^-0.3 = 2.01
    assert MdeEmbedding(7, 16, alpha=0.3, full=1).widths == (16,)  # 8 would take 7 * 8 + 8 * 16, more than 7 * 16


def test_rows_are_narrow_rows_by_their_map():
    narrow = table(alpha=0.3)
    maps = dict(zip((0, 1, 3), narrow.maps, strict=True))
    ids = torch.tensor([[4081 + 884, 3], [884 + 4082 + 6, 884 + 4082 + 7]])
    wanted = torch.stack(
        [narrow.tables[1][4081] @ maps[1], narrow.tables[0][3] @ maps[0], narrow.tables[2][6], narrow.tables[3][0] @ maps[3]]
    )
    assert torch.allclose(narrow(ids), wanted.view(2, 2, 16))


@pytest.mark.parametrize("round_dim", [True, False])
def test_budgets_of_several_fields(round_dim):
    taken = []
    for budget in (0.5, 0.2, 0.1):
        tables = FieldTables(FIELDS, 16, MdeEmbedding, budget, round_dim=round_dim)
        words = tables.memory().serving_words
        assert words <= budget * sum(FIELDS) * 16
        taken.append(words / (budget * sum(FIELDS) * 16))
        assert tables(torch.tensor([[883, 4081, 6, 74]])).shape == (1, 4, 16)
    assert min(taken) > (0.45 if round_dim else 0.7)
    with pytest.raises(ParameterError, match=r"mde: .* the least is .*--budget 0\.065"):
        FieldTables(FIELDS, 16, MdeEmbedding, 0.05)


def test_bad_settings():
    with pytest.raises(ParameterError, match=r"alpha=1\.5"):
        table(alpha=1.5)
    with pytest.raises(ParameterError, match=r"fields of \[3, 4\] ids for a table of 8"):
        MdeEmbedding(8, 4, fields=(3, 4))
