"""The compiled loops beside the same in plain numpy, value by value."""

import numpy as np
import pytest
import torch

from maet_core import kernels

NAN, INFINITY = 0x7FC0, 0x7F80


def bits(rng, size, scale=0.02):
    values = torch.from_numpy((rng.standard_normal(size) * scale).astype(np.float32))
    return values.bfloat16().view(torch.uint16).numpy().copy()


def widened(stored):
    return (stored.astype(np.uint32) << 16).view(np.float32)


def addresses(*arrays):
    return np.array([values.ctypes.data for values in arrays], np.uint64)


def merged(base, weights, coefficients, mask_of, masks):
    """θ_o + Σ_k c_k · (θ_k − θ_o) in float32, addend by addend, rounded by torch."""
    total = np.zeros(base.size, np.float32)
    for stored, coefficient, mask in zip(weights, coefficients, mask_of, strict=True):
        change = np.float32(coefficient) * (widened(stored) - widened(base))
        total += change if mask < 0 else np.where(masks[mask], change, 0)
    rounded = torch.from_numpy(widened(base) + total).bfloat16().view(torch.uint16).numpy()
    return np.where(total == 0, base, rounded)


PATTERNS = [
    *([-1] * count for count in range(11)),
    [0],
    [0, 0],
    [0, 0, -1],
    [0, 0, -1, -1, -1, -1],
    [0, 0, -1, -1, -1, -1, -1],
    [0, 1, -1, -1],
    [0, 0, 1, 1, -1, -1],
    [-1, 0, -1, 0, -1, -1, -1, -1, -1, 1],
]


@pytest.mark.parametrize("size", [1, 2, 31, 4097, 20000])
@pytest.mark.parametrize("mask_of", PATTERNS, ids=str)
def test_merges_bf16_as_numpy_and_torch_do(mask_of, size):
    rng = np.random.default_rng(size + len(mask_of))
    base, masks = bits(rng, size), rng.random((2, size)) < 0.3
    weights = [bits(rng, size) for _ in mask_of]
    base[0] = 0x8000  # −0
    for stored in weights:  # where nothing differs, nothing changes
        same = rng.random(size) < 0.2
        same[0] = True
        stored[same] = base[same]
    coefficients = rng.uniform(-1, 1, len(mask_of)).astype(np.float32)
    out = np.zeros(size, np.uint16)
    fits = kernels.merge_bf16(addresses(base, *weights), coefficients, np.array(mask_of, np.int64), masks, out)
    np.testing.assert_array_equal(out, merged(base, weights, coefficients, mask_of, masks))
    assert fits
    changed, largest = kernels.compare_bf16(out, base)
    assert changed == np.count_nonzero(widened(out) != widened(base))
    assert widened(np.array([largest], np.uint16)) == np.abs(widened(out)).max()


@pytest.mark.parametrize("addends", [0, 1, 4, 6])
@pytest.mark.parametrize("kind", ["rows", "columns", "positions"])
@pytest.mark.parametrize(("height", "width"), [(1, 2), (7, 6), (130, 700), (2100, 18)])
def test_merges_some_places_as_it_merges_all(kind, height, width, addends):
    rng = np.random.default_rng(height + addends)
    everything = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    indices = {"rows": height, "columns": width, "positions": height * width}[kind]
    indices = np.flatnonzero(rng.random(indices) < 0.4).astype(np.uint32)
    places = {"rows": everything[indices % height], "columns": everything[:, indices % width], "positions": indices}[
        kind
    ]
    places = places.reshape(-1)
    inputs = [bits(rng, places.size) for _ in range(1 + addends)]
    coefficients = rng.uniform(-1, 1, addends).astype(np.float32)
    out = bits(rng, height * width)
    expected = out.copy()
    expected[places] = merged(inputs[0], inputs[1:], coefficients, [-1] * addends, None)

    def merge():
        if kind == "rows":
            return kernels.merge_rows_bf16(addresses(*inputs), coefficients, indices, width, out)
        if kind == "columns":
            return kernels.merge_columns_bf16(addresses(*inputs), coefficients, indices, width, out)
        return kernels.merge_positions_bf16(addresses(*inputs), coefficients, indices, out)

    assert merge()
    np.testing.assert_array_equal(out, expected)
    if places.size and addends:
        inputs[-1][-1] = NAN
        assert not merge()


@pytest.mark.parametrize("size", [2, 4098])
@pytest.mark.parametrize("others", range(5))
@pytest.mark.parametrize("pairs", [1, 2])
def test_a_limit_does_what_its_mask_does(pairs, others, size):
    rng = np.random.default_rng(size + others)
    inputs = [bits(rng, size) for _ in range(1 + 2 * pairs + others)]
    inputs[1][:1] = inputs[0][:1]
    inputs[2] = inputs[0]  # as where there is no source language
    limits = np.array([0.02, 0.01], np.float32)[:pairs].view(np.uint32)
    changes = [np.abs(widened(inputs[1 + 2 * pair]) - widened(inputs[0])).view(np.uint32) for pair in range(pairs)]
    masks = np.stack([change > limit for change, limit in zip(changes, limits, strict=True)])
    mask_of = [pair for pair in range(pairs) for _ in range(2)] + [-1] * others
    coefficients = rng.uniform(-1, 1, len(mask_of)).astype(np.float32)
    out = np.zeros(size, np.uint16)
    assert kernels.merge_limited_bf16(addresses(*inputs), coefficients, limits, out)
    np.testing.assert_array_equal(out, merged(inputs[0], inputs[1:], coefficients, mask_of, masks))
    for stored in inputs[1:]:
        kept, stored[-1] = stored[-1], NAN
        assert not kernels.merge_limited_bf16(addresses(*inputs), coefficients, limits, out)
        stored[-1] = kept


@pytest.mark.parametrize("bad", [NAN, INFINITY, NAN | 0x8000])
@pytest.mark.parametrize("place", [0, 1, 4096, 5000])
@pytest.mark.parametrize("mask_of", [[-1], [-1] * 5, [0, 0, -1], [0, -1, 0]], ids=str)
def test_one_value_that_is_not_finite_is_noticed_in_any_input(mask_of, place, bad):
    rng = np.random.default_rng(0)
    inputs = [bits(rng, 5001) for _ in range(1 + len(mask_of))]
    masks, out = np.zeros((1, 5001), np.bool_), np.empty(5001, np.uint16)
    for stored in inputs:
        kept, stored[place] = stored[place], bad
        coefficients = np.ones(len(mask_of), np.float32)
        assert not kernels.merge_bf16(addresses(*inputs), coefficients, np.array(mask_of), masks, out)
        stored[place] = kept
    assert kernels.merge_bf16(addresses(*inputs), coefficients, np.array(mask_of), masks, out)


def test_a_result_that_bf16_cannot_hold_is_noticed():
    base, weights, out = np.zeros(7, np.uint16), np.full(7, 0x7F00, np.uint16), np.empty(7, np.uint16)
    masks = np.empty((0, 0), np.bool_)
    assert kernels.merge_bf16(addresses(base, weights), np.float32([1]), np.array([-1]), masks, out)
    assert not kernels.merge_bf16(addresses(base, weights), np.float32([4]), np.array([-1]), masks, out)


def gram_of(inputs, size, rows, limits, masks, numbers, wanted=None):
    count = len(inputs) - 1
    gram, counts = np.zeros((count, count)), np.zeros((len(rows), 2), np.int64)
    wanted = np.zeros(len(rows), np.uint32) if wanted is None else wanted
    kernels.gram_bf16(addresses(*inputs), size, rows, limits, masks, numbers, gram, wanted, counts)
    return gram, counts


def padded(numbers):
    return np.array([*numbers] + [0] * (-len(numbers) % 4), np.int64)


@pytest.mark.parametrize("size", [0, 6, 1000, 40_000])
@pytest.mark.parametrize("rule", ["all", "limit", "mask", "few", "few above", "none"])
@pytest.mark.parametrize("languages", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("own", [1, 2])
def test_inner_products_of_changes_are_those_of_float64(own, languages, rule, size):
    rng = np.random.default_rng(size + languages)
    base, weights = bits(rng, size), [bits(rng, size) for _ in range(own + languages)]
    changes = np.stack([widened(stored) - widened(base) for stored in weights])
    limit = np.float32(4.0 if rule == "few above" else 0.5).view(np.uint32)
    above = np.abs(changes[0]).view(np.uint32) > limit
    mask = above if "limit" in rule or "above" in rule else rng.random(size) < {"few": 0.02, "none": 0}.get(rule, 0.3)
    number = {"all": -1, "limit": -2, "few above": -2}.get(rule, 0)
    rows, limits = np.array([[1, own if own == 2 else 0, number]]), np.array([limit])
    numbers = padded(range(own + 1, own + languages + 1)) if languages else np.zeros(4, np.int64)
    threshold = np.abs(changes[0]).view(np.uint32)[size // 2 : size // 2 + 1]
    gram, counts = gram_of([base, *weights], size, rows, limits, mask[None], numbers, threshold if size else None)
    if size:
        magnitudes = np.abs(changes[0]).view(np.uint32)
        assert counts.tolist() == [[(magnitudes > threshold).sum(), (magnitudes == threshold).sum()]]
    if rule != "all":
        changes[:own] *= mask
    assert_gram(gram, changes)


def assert_gram(gram, changes, wanted=None):
    """Right to seven digits of what a product could be at most, and a digit less where there are few values to even out."""
    changes = changes.astype(np.float64)
    wanted = np.tril(changes @ changes.T if wanted is None else wanted)
    lengths = np.sqrt(np.sum(changes**2, axis=1))
    assert (np.abs(gram - wanted) <= (1e-7 if changes.shape[1] > 10_000 else 1e-6) * np.outer(lengths, lengths)).all()


@pytest.mark.parametrize("abilities", [1, 2, 3])
@pytest.mark.parametrize("density", [0.01, 0.5])
def test_inner_products_of_several_abilities_beside_one_another(abilities, density):
    """Each has key neurons of its own, and one is chosen by a limit."""
    rng, size, languages = np.random.default_rng(abilities), 33_334, 4
    count = 2 * abilities + languages
    base, weights = bits(rng, size), [bits(rng, size) for _ in range(count)]
    changes = np.stack([widened(stored) - widened(base) for stored in weights])
    limit = np.quantile(np.abs(changes[0]), 1 - density).view(np.uint32)
    masks = rng.random((abilities, size)) < density
    masks[0] = np.abs(changes[0]).view(np.uint32) > limit
    rows = np.array([[2 * i + 1, 2 * i + 2, i or -2] for i in range(abilities)])
    limits = np.array([limit] + [0] * (abilities - 1), np.uint32)
    gram, _ = gram_of([base, *weights], size, rows, limits, masks, np.arange(2 * abilities + 1, count + 1))
    changes = changes.astype(np.float64)
    changes[: 2 * abilities] *= np.repeat(masks, 2, axis=0)
    wanted = changes @ changes.T
    for i in range(abilities):  # two abilities are not multiplied with each other
        wanted[2 * i + 2 : 2 * abilities, 2 * i : 2 * i + 2] = 0
    assert_gram(gram, changes, wanted)


@pytest.mark.parametrize("rule", [-1, -2, 0])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_an_input_that_is_not_finite_shows_in_inner_products_wherever_it_is(which, rule):
    rng, size = np.random.default_rng(which), 5000
    inputs = [bits(rng, size) for _ in range(4)]
    masks = np.zeros((1, size), np.bool_)
    masks[0, 7] = True
    inputs[which][4000] = NAN
    limits = np.float32([100]).view(np.uint32)
    gram, _ = gram_of(inputs, size, np.array([[1, 2, rule]]), limits, masks, padded([3]))
    assert not np.isfinite(gram).all()


@pytest.mark.parametrize("size", [0, 2, 66, 5000])
@pytest.mark.parametrize("width", [0.0, 0.01, 0.5, 1.0])
def test_what_lies_above_a_bracket_and_inside_of_changes(width, size):
    rng = np.random.default_rng(size)
    base, stored = bits(rng, size), bits(rng, size)
    low, high = np.float32(0.5).view(np.uint32), np.float32(0.5 + width).view(np.uint32)
    magnitudes = np.abs(widened(stored) - widened(base)).view(np.uint32)
    inside = np.empty(size + kernels.FEW, np.uint32)
    above, found, finite = kernels.changes_near(addresses(base, stored), size, low, high, inside)
    assert finite
    assert above == np.count_nonzero(magnitudes > high)
    np.testing.assert_array_equal(
        np.sort(inside[:found]), np.sort(magnitudes[(magnitudes >= low) & (magnitudes <= high)])
    )
    if size:
        stored[size // 2] = NAN
        assert not kernels.changes_near(addresses(base, stored), size, low, high, inside)[2]


def test_changes_and_whether_they_are_finite():
    rng = np.random.default_rng(1)
    base, stored = bits(rng, 333), bits(rng, 333)
    one, other = np.empty(333, np.float32), np.empty(333, np.float32)
    assert kernels.change_bf16(base, stored, one)
    assert kernels.minus_base_bf16(stored, widened(base), other)
    np.testing.assert_array_equal(one, widened(stored) - widened(base))
    np.testing.assert_array_equal(one, other)
    stored[300] = NAN
    assert not kernels.change_bf16(base, stored, one)
    assert not kernels.minus_base_bf16(stored, widened(base), other)


@pytest.mark.parametrize("size", [0, 5, 1000])
def test_how_magnitudes_begin(size):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    magnitudes = np.abs(values).view(np.uint32)
    wanted = np.zeros(1 << 16, np.bool_)
    wanted[0x3F00:0x3F20] = True
    counts, inside = np.zeros(1 << 16, np.int64), np.empty(size + 1, np.uint32)
    found = kernels.count_beginnings(values.view(np.uint32), wanted, counts, inside)
    np.testing.assert_array_equal(counts, np.bincount(magnitudes >> 16, minlength=1 << 16))
    np.testing.assert_array_equal(inside[:found], magnitudes[wanted[magnitudes >> 16]])


@pytest.mark.parametrize("size", [0, 5, 32, 1000])
@pytest.mark.parametrize("width", [0.0, 0.01, 0.5, 1.0])
def test_what_lies_above_a_bracket_and_inside(width, size):
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    magnitudes = np.abs(values).view(np.uint32)
    low, high = np.float32(0.5).view(np.uint32), np.float32(0.5 + width).view(np.uint32)
    inside = np.empty(size + 1, np.uint32)
    above, found = kernels.above_and_inside(values.view(np.uint32), low, high, inside)
    assert above == np.count_nonzero(magnitudes > high)
    np.testing.assert_array_equal(inside[:found], magnitudes[(magnitudes >= low) & (magnitudes <= high)])
