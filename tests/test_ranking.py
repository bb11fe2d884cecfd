"""The largest magnitudes, against a sort: ties in order, a sample that misleads, one chunk or many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maet_core import kernels
from maet_core.ranking import beginnings, bracket, largest, largest_of_each
from maet_core.ranking import values as values_module


def check(groups, count):
    """Exactly the first `count` of a stable sort by magnitude."""
    cuts, counts = largest(
        {name: values.size for name, values in groups.items()}, count, lambda n, a, b: groups[n][a:b]
    )
    everything = np.concatenate([np.abs(values) for values in groups.values()])
    expected = np.zeros(everything.size, bool)
    expected[np.argsort(-everything, kind="stable")[:count]] = True
    found = np.concatenate([cuts[name].chosen(values, 0) for name, values in groups.items()])
    assert np.array_equal(found, expected)
    assert counts == {name: int(cuts[name].chosen(values, 0).sum()) for name, values in groups.items()}


few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 3.0])
some = few | st.floats(-4, 4, width=32)
arrays = st.lists(st.lists(some, max_size=30), min_size=1, max_size=4)


@given(arrays, st.floats(0, 1), st.sampled_from([2, 7, 1 << 17]), st.sampled_from([(8, 2), (16, 16), (1 << 20, 256)]))
def test_any_values(lists, share, chunk, sample):
    groups = {f"t{i}": np.array(values, np.float32) for i, values in enumerate(lists)}
    total = sum(len(values) for values in lists)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "CHUNK_ELEMENTS", chunk)
        patch.setattr(kernels, "RANGE_ELEMENTS", 4 * chunk)
        patch.setattr(values_module, "_SAMPLE", sample[0])
        patch.setattr(values_module, "_SEGMENT", sample[1])
        check(groups, round(share * total))


SHARES = (0.0001, 0.05, 0.5, 0.999)


def test_a_sample_of_many_values_is_enough(monkeypatch):
    """One pass after the sample for all the counts: no value is read more than twice."""
    values = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    groups = {"a": values[:100_000], "b": values[100_000:] * 2}
    monkeypatch.setattr(values_module, "_SAMPLE", 1 << 14)
    sizes, read = {name: group.size for name, group in groups.items()}, []

    def values_of(name, start, stop):
        read.append(stop - start)
        return groups[name][start:stop]

    counts = [round(share * values.size) for share in SHARES]
    found = largest_of_each(sizes, [*counts, 0, counts[0]], values_of)
    assert sum(read) <= values.size + values_module._SAMPLE + values_module._SEGMENT
    assert [sum(counts.values()) for _, counts in found] == [*counts, 0, counts[0]]
    for count, both in zip(counts, found, strict=False):
        assert both == largest(sizes, count, values_of)
        check(groups, count)


def test_a_sample_that_misleads_costs_time_only(monkeypatch):
    """Large values where no segment of the sample lies."""
    values = np.random.default_rng(1).uniform(0, 1, 40_000).astype(np.float32)
    values[1000:2000] += 5
    monkeypatch.setattr(values_module, "_SAMPLE", 8)
    monkeypatch.setattr(values_module, "_SEGMENT", 4)
    monkeypatch.setattr(values_module, "_DEVIATIONS", 0)
    check({"a": values}, 500)


def test_values_that_are_mostly_alike_are_counted(monkeypatch):
    """As differences of bf16 weights are: seldom more than a few passes, whichever of them is the threshold, and no fewer than exact."""
    generator = np.random.default_rng(2)
    values = (np.round(generator.standard_normal(200_000) * 3) / 8).astype(np.float32)
    monkeypatch.setattr(values_module, "_SAMPLE", 1 << 13)
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", 1 << 12)
    monkeypatch.setattr(kernels, "RANGE_ELEMENTS", 1 << 14)
    monkeypatch.setattr(beginnings, "find", lambda *_: pytest.fail("the sample misled"))
    for share in np.linspace(0.01, 0.9, 30):
        check({"a": values[:150_000], "b": values[150_000:]}, round(share * values.size))


def test_what_lies_between_is_not_held_where_it_is_too_much(monkeypatch):
    values = np.random.default_rng(5).standard_normal(50_000).astype(np.float32)
    monkeypatch.setattr(values_module, "_SAMPLE", 1 << 10)
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", 1 << 10)
    monkeypatch.setattr(kernels, "RANGE_ELEMENTS", 1 << 12)
    monkeypatch.setattr(bracket, "_HELD", 100)
    monkeypatch.setattr(bracket, "_HELD_SHARE", 0.0)
    found = []
    monkeypatch.setattr(bracket, "_look", lambda *given, look=bracket._look: found.append(look(*given)) or found[-1])
    check({"a": values[:20_000], "b": values[20_000:]}, 9_999)
    assert found == [None]
