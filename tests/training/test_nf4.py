"""NF4: the code book from its definition, rounding, memory, and equality with bitsandbytes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from regraft.errors import ParameterError
from regraft.training.nf4 import BITS, BLOCK, LEVELS, NF4Weight, block_scales, dequantize, dynamic_levels, levels, quantize
from regraft.training.quantized import NF4Linear

PUBLISHED = [
    -1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0, 0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098,
    0.5626170, 0.7229568, 1,
]  # fmt: skip


def gaussian(*shape, seed=0, scale=0.02):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_levels_are_the_published_quantiles_of_a_normal():
    """8 equal steps of probability on the negative side, 7 on the positive one, between 1/2 and 1 - (1/32 + 1/30) / 2."""
    end = 1 - (1 / 32 + 1 / 30) / 2
    negative = [-norm.ppf(end + i / 7 * (0.5 - end)) for i in range(8)]
    positive = [norm.ppf(end + i / 8 * (0.5 - end)) for i in range(9)]
    expected = sorted({*negative[:-1], 0.0, *positive[:-1]})
    expected = [value / max(expected) for value in expected]
    assert pytest.approx(expected, abs=2e-7) == LEVELS
    assert pytest.approx(PUBLISHED, abs=5e-8) == LEVELS


def test_second_level_is_a_dynamic_float_of_256_values():
    book = dynamic_levels()
    assert len(book) == len(set(book.tolist())) == 256
    assert (book.diff() > 0).all()
    assert book[book > 0].min().item() == pytest.approx(0.55e-6)
    assert sorted(-book[(book < 0)]) == sorted(book[(book > 0) & (book < 1)])
    assert book[-1] == 1


def test_every_level_maps_to_itself():
    block = torch.cat([levels(), torch.zeros(BLOCK - 16)]) * 0.375
    held = quantize(block)
    assert torch.equal(dequantize(held), block)
    assert [int(code) for byte in held.codes[:8] for code in (byte >> 4, byte & 15)] == list(range(16))


@pytest.mark.parametrize("shape", [(7, 64), (100, 37), (3,), (1, 1), (64, 576), (5, 4, 33)])
def test_round_trip_stays_within_half_the_local_gap(shape):
    weight = gaussian(*shape)
    held = quantize(weight)
    back = dequantize(held)
    assert back.shape == weight.shape
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    got = torch.nn.functional.pad(back.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    maxima = flat.abs().amax(1, keepdim=True)
    scales = block_scales(held).unsqueeze(1)
    assert (scales / maxima - 1).abs().max() < 0.01
    codes = got / scales
    place = torch.searchsorted(levels() - 1e-6, codes.contiguous(), right=True) - 1
    torch.testing.assert_close(levels()[place], codes, rtol=0, atol=1e-5)
    gaps = levels().diff()
    below, above = gaps[(place - 1).clamp(min=0)], gaps[place.clamp(max=14)]
    error = flat / maxima - levels()[place]
    assert (error <= above / 2 + 1e-6).all()
    assert (error >= -below / 2 - 1e-6).all()


def test_the_maxima_are_kept_within_one_percent():
    weight = gaussian(1536, 576)
    held = quantize(weight)
    maxima = weight.view(-1, BLOCK).abs().amax(1)
    assert held.offset.item() == pytest.approx(maxima.mean().item(), rel=1e-6)
    assert ((block_scales(held) - maxima).abs() / maxima).max() < 0.01


def test_memory_is_4_127_bits_a_weight():
    assert pytest.approx(4 + 8 / 64 + 32 / (64 * 256)) == BITS
    assert round(BITS, 3) == 4.127
    held = quantize(gaussian(1024, 1024))
    assert held.nbytes == 1024 * 1024 // 2 + 1024 * 16 + 4 * (1024 * 16 // 256) + 4
    assert held.bits_per_parameter == pytest.approx(BITS, abs=1e-4)
    layer = NF4Linear(gaussian(1024, 1024))
    assert sum(t.numel() * t.element_size() for t in layer.state_dict().values()) == held.nbytes
    assert list(layer.parameters()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_quantized_as_their_float32_values(dtype):
    weight = gaussian(8, 128).to(dtype)
    held, same = quantize(weight), quantize(weight.float())
    assert torch.equal(held.codes, same.codes)
    assert torch.equal(held.scales, same.scales)
    assert dequantize(held, dtype).dtype == dtype
    assert torch.equal(dequantize(held, dtype), dequantize(same).to(dtype))


def test_work_in_chunks_gives_the_same(monkeypatch):
    weight = gaussian(50, 77)
    whole = quantize(weight)
    monkeypatch.setattr("regraft.training.nf4.CHUNK", 3)
    parts = quantize(weight)
    assert all(torch.equal(getattr(whole, name), getattr(parts, name)) for name in ("codes", "scales", "tops", "offset"))


def test_blocks_of_zeros_stay_zero():
    weight = torch.cat([torch.zeros(3, 64), gaussian(5, 64)])
    back = dequantize(quantize(weight))
    assert (back[:3] == 0).all()
    assert torch.equal(dequantize(quantize(torch.zeros(4, 64))), torch.zeros(4, 64))


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=200))
def test_no_value_leaves_the_range_of_its_block(values):
    weight = torch.tensor(values)
    held = quantize(weight)
    back = dequantize(held)
    assert torch.isfinite(back).all()
    limits = block_scales(held).repeat_interleave(BLOCK)[: len(weight)].abs()
    assert (back.abs() <= limits * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.tensor([1.0, math.nan]), "NaN or infinity"),
        (torch.tensor([[1.0, -math.inf]]), "shape \\(1, 2\\) holds NaN or infinity"),
        (torch.zeros(0, 4), "shape \\(0, 4\\)"),
        (torch.arange(64), "torch.int64"),
    ],
)
def test_what_cannot_be_quantized_is_refused(weight, message):
    with pytest.raises(ParameterError, match=message):
        quantize(weight)


class TestLinear:
    def test_it_computes_with_the_dequantized_weight_forward_and_backward(self):
        weight, bias = gaussian(48, 80), torch.nn.Parameter(gaussian(48, seed=1))
        layer = NF4Linear(weight, bias)
        plain = torch.nn.Linear(80, 48)
        plain.weight.data, plain.bias.data = layer.dequantized(), bias.data
        x, y = (gaussian(3, 5, 80, seed=2, scale=1.0).requires_grad_() for _ in range(2))
        out, expected = layer(x), plain(y)
        torch.testing.assert_close(out, expected)
        out.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
        torch.testing.assert_close(bias.grad, plain.bias.grad)

    def test_it_keeps_no_weight_between_forward_and_backward(self):
        layer, x = NF4Linear(gaussian(64, 64)), gaussian(2, 64, seed=3).requires_grad_()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            layer(x)
        assert not [t for t in saved if t.numel() >= 64 * 64]

    def test_autocast_computes_in_bfloat16(self):
        layer, x = NF4Linear(gaussian(32, 64)), gaussian(2, 64, seed=3)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), layer(x), rtol=2e-2, atol=2e-2)

    def test_its_weight_cannot_be_read_or_updated_in_vain(self):
        layer = NF4Linear(gaussian(32, 64).bfloat16())
        assert (layer.weight.dtype, layer.weight.shape) == (torch.bfloat16, (32, 64))
        assert layer.weight.isnan().all()
        with pytest.raises(RuntimeError):
            layer.weight.data += 1


@pytest.mark.parametrize("shape", [(64, 64), (100, 37), (1536, 576)])
def test_equality_with_bitsandbytes(shape):
    library = pytest.importorskip("bitsandbytes.functional")
    weight = gaussian(*shape)
    held = quantize(weight)
    packed, state = library.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    assert torch.equal(held.codes, packed.flatten()[: len(held.codes)])
    assert held.offset == state.offset
    torch.testing.assert_close(dynamic_levels(), state.state2.code, rtol=1e-6, atol=1e-7)
    assert (held.scales.int() - state.absmax.int()).abs().max() <= 1  # at decade borders it may take the second nearest
    assert (held.scales == state.absmax).float().mean() > 0.99
    theirs = NF4Weight(packed.flatten()[: len(held.codes)], state.absmax, state.state2.absmax, state.offset, weight.shape)
    torch.testing.assert_close(dequantize(theirs), library.dequantize_4bit(packed, state), rtol=1e-6, atol=1e-9)
