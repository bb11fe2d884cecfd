"""What was computed about files once is not computed again, and never stands for other files."""

import os
import time

import pytest
from models import make_family, read_model, write_model

from maet_core import remembered
from maet_core.merging import merge
from maet_core.recipe import Recipe
from maet_core.selection import measure
from maet_core.sources import Sources


def recipe_of(k1=10.0, granularity="parameter", **changes):
    keys = {"k1": k1, "granularity": granularity}
    ability = {
        "ability": "ability",
        "source_language": "source",
        "beta": 0.5,
        "key_neurons": keys,
        "tensors": {"k2": 60.0},
    }
    languages = {"sw": {"checkpoint": "sw", "mu": 0.5}, "te": {"checkpoint": "te", "mu": 0.5}}
    return Recipe.from_dict({"base": "base", "abilities": {"math": ability}, "languages": languages} | changes)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Models that were written a while ago, and a cache of their own."""
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "_SETTLED_NANOSECONDS", 2_000_000_000)
    make_family(tmp_path, "llama", dtype="bfloat16", seed=3)
    settle(tmp_path)
    return tmp_path


def settle(folder, seconds_ago=60):
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - seconds_ago, time.time() - seconds_ago))


def looked_at(recipe, folder):
    """What `measure` and the key neurons come to, and how many bytes of weights were read for it."""
    sources = Sources.open(recipe, folder)
    keys = sources.abilities["math"].key_neurons
    rows = measure(sources).select(recipe)["math"].rows
    return (rows, keys and keys.to_json()), sources.bytes_read


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_the_second_time_nothing_is_read_and_all_is_the_same(world, granularity):
    found, read = looked_at(recipe_of(granularity=granularity), world)
    again, read_again = looked_at(recipe_of(granularity=granularity), world)
    assert again == found
    assert read > 0 == read_again
    merge(recipe_of(granularity=granularity), world, world / "again", device="cpu")
    for entry in (world / "cache").glob("[ks]*/*.json"):
        entry.unlink()
    merge(recipe_of(granularity=granularity), world, world / "first", device="cpu")
    assert (world / "again" / "model.safetensors").read_bytes() == (world / "first" / "model.safetensors").read_bytes()


def test_a_recipe_without_key_neurons_or_candidates_is_remembered_too(world):
    plain = recipe_of(abilities={"math": {"ability": "ability", "tensors": {"k2": 50.0}}})
    found, _ = looked_at(plain, world)
    assert looked_at(plain, world) == (found, 0)
    same = recipe_of(abilities={"math": {"ability": "base", "tensors": {"k2": 50.0}}})
    nothing, _ = looked_at(same, world)
    assert nothing == ((), None)
    assert looked_at(same, world) == (nothing, 0)


def test_other_coefficients_are_the_same_work_and_another_rule_is_not(world):
    looked_at(recipe_of(), world)
    ability = recipe_of().to_dict()["abilities"]["math"]
    changed = recipe_of(
        abilities={"math": ability | {"alpha": 0.7, "beta": 0.1, "gamma": 2.0, "tensors": {"k2": 20.0}}}
    )
    assert looked_at(changed, world)[1] == 0
    assert looked_at(recipe_of(k1=20.0), world)[1] > 0
    assert looked_at(recipe_of(languages={"te": {"checkpoint": "te"}, "sw": {"checkpoint": "sw"}}), world)[1] > 0


@pytest.mark.parametrize("changed", ["base", "ability", "source", "sw"])
def test_a_model_that_was_written_again_is_looked_at_again(world, changed):
    found, _ = looked_at(recipe_of(), world)
    tensors = read_model(world / changed)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name] + tensors[name].abs().mean()
    write_model(world / changed, None, tensors)
    settle(world / changed, -60)  # new for as long as this takes
    other, read = looked_at(recipe_of(), world)
    assert read > 0
    assert other != found
    # a file that is this new could be written once more without another modification time
    assert looked_at(recipe_of(), world)[1] > 0
    settle(world)
    assert looked_at(recipe_of(), world)[0] == other


def test_a_damaged_or_unwritable_cache_costs_time_only(world, monkeypatch):
    found, _ = looked_at(recipe_of(), world)
    entries = list((world / "cache").glob("[ks]*/*.json"))
    assert len(entries) == 2
    for entry in entries:
        entry.write_text(entry.read_text()[:-20])
    assert looked_at(recipe_of(), world)[0] == found
    (world / "file").write_text("")
    monkeypatch.setenv("MAET_CACHE", str(world / "file"))
    assert looked_at(recipe_of(), world)[0] == found


def test_the_oldest_results_go(tmp_path, monkeypatch):
    monkeypatch.setenv("MAET_CACHE", str(tmp_path))
    monkeypatch.setattr(remembered, "_KEPT", 3)
    for number in range(5):
        remembered.remember("kind", number, str(number))
        for file in (tmp_path / "kind").iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9))
        if number >= 1:
            assert remembered.recall("kind", 1) == "1"  # what is asked for stays
    assert [remembered.recall("kind", number) for number in range(5)] == [None, "1", None, "3", "4"]
