"""Key neurons and similarities in one pass: whatever was guessed, what comes out is what two passes find."""

import numpy as np
import pytest
from models import make_family, write_model

from maet_core import kernels, ranked_in_passing
from maet_core.errors import CheckpointError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.ranking import Values, guess, largest
from maet_core.recipe import Recipe
from maet_core.selection import measure
from maet_core.sources import Sources

MEMBERS = ("ability", "source", "other", "sw", "te")


def coarse(rng, size):
    """Changes as bf16 weights have them: few different values."""
    return (np.round(rng.standard_normal(size) * 4) / 4).astype(np.float32)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_a_guess_that_is_right_settles_what_a_ranking_finds(seed, share, monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", 50)
    monkeypatch.setattr(kernels, "RANGE_ELEMENTS", 200)
    rng = np.random.default_rng(seed)
    groups = {name: coarse(rng, size) for name, size in (("a", 700), ("b", 10), ("c", 1), ("d", 4000), ("e", 333))}
    sizes, count = {name: group.size for name, group in groups.items()}, round(share * 5044)
    values = Values.of(sizes, lambda name, start, stop: groups[name][start:stop])
    found = guess(values, count)
    if count == 0 or found is None:
        assert count == 0 or share > 0.8  # most changes are zero, and none of them is chosen by its magnitude
        return
    for name in groups:
        found.look(name)
    cuts, counts = found.settled()
    assert (cuts, counts) == largest(sizes, count, values.read)
    for name, group in groups.items():
        chosen = np.abs(group).view(np.uint32) > found.limit(name)
        if found.right(name, cuts[name]):
            assert np.array_equal(chosen, cuts[name].chosen(group, 0))
        else:
            assert not np.array_equal(chosen, cuts[name].chosen(group, 0))


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Of tensors that an ability leaves as they are, too."""
    folder = tmp_path_factory.mktemp("passing")
    found = make_family(folder, "llama", MEMBERS, "bfloat16", density=0.6, untouched=0.3, vocab_size=64)
    for member in MEMBERS:  # changes of a few sizes only
        tensors = {
            name: (base + ((tensor - base).float() * 512).round().to(tensor.dtype) / 512).to(tensor.dtype)
            for (name, base), tensor in zip(found.tensors["base"].items(), found.tensors[member].values(), strict=True)
        }
        write_model(found.path(member), found.config, tensors)
    return found


def recipe_of(k1=10.0, **keys):
    rule = {"k1": k1, **keys}
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {"ability": "ability", "source_language": "source", "beta": 0.5, "key_neurons": rule},
                "other": {
                    "ability": "other",
                    "source_language": "source",
                    "beta": 1.0,
                    "key_neurons": rule | {"k1": k1 / 2},
                },
            },
            "languages": {"sw": {"checkpoint": "sw"}, "te": {"checkpoint": "te"}, "en": {"checkpoint": "source"}},
        }
    )


def rankings(sources):
    return {name: weights.key_neurons.to_json() for name, weights in sources.abilities.items()}


def assert_same(measured, expected):
    assert rankings(measured.sources) == rankings(expected.sources)
    for ability, products in expected._products.items():
        assert measured._products[ability].names == products.names
        assert np.array_equal(measured._products[ability].grams, products.grams)


WRONG = {
    "nothing": lambda guess: None,
    "too high": lambda guess: setattr(guess, "bits", np.float32(100).view(np.uint32)),
    "too low": lambda guess: setattr(guess, "bits", np.uint32(1)),
    "no equals": lambda guess: setattr(guess, "share", 0.0),
    "all equals": lambda guess: setattr(guess, "share", 1.0),
    "not counted": lambda guess: setattr(guess, "failed", True),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_one_pass_finds_what_two_find(family, monkeypatch, wrong):
    monkeypatch.setattr("maet_core.similarity.bits._SMALL", 0)
    expected = measure(Sources.open(recipe_of(), family.folder))
    guesses = []

    def changed(keys):
        found = whole(keys)
        WRONG[wrong](found)
        guesses.append(found)
        return found

    whole = KeyNeurons.guess
    monkeypatch.setattr(KeyNeurons, "guess", changed)
    sources = Sources.open(recipe_of(), family.folder, ranked=False)
    assert not any(weights.key_neurons.is_ranked for weights in sources.abilities.values())
    assert_same(measure(sources), expected)
    assert len(guesses) == 2


def test_one_pass_reads_what_one_pass_reads(family, monkeypatch):
    monkeypatch.setattr("maet_core.similarity.bits._SMALL", 0)
    again = []
    whole = ranked_in_passing.inner_products
    monkeypatch.setattr(
        ranked_in_passing,
        "inner_products",
        lambda sources, name, guesses=None: (
            whole(sources, name, guesses) if guesses else again.append(name) or whole(sources, name)
        ),
    )
    sources = Sources.open(recipe_of(), family.folder, ranked=False)
    measure(sources)
    assert len(again) <= 4  # where some of those that equal a threshold are key and some not


@pytest.mark.parametrize(
    "keys", [{"scope": "per-tensor"}, {"granularity": "unit"}, {"method": "random"}, {"k1": 0.0}], ids=str
)
def test_key_neurons_of_which_nothing_is_guessed(family, keys):
    expected = measure(Sources.open(recipe_of(**keys), family.folder))
    assert_same(measure(Sources.open(recipe_of(**keys), family.folder, ranked=False)), expected)


def test_small_tensors_are_measured_when_their_key_neurons_are_known(family):
    expected = measure(Sources.open(recipe_of(), family.folder))
    assert_same(measure(Sources.open(recipe_of(), family.folder, ranked=False)), expected)


def test_what_is_not_finite_is_told(family, monkeypatch):
    monkeypatch.setattr("maet_core.similarity.bits._SMALL", 0)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = dict(family.tensors["other"])
    tensors[name] = tensors[name].clone()
    tensors[name][0, 3] = float("inf")
    write_model(family.folder / "damaged", family.config, tensors)
    content = recipe_of().to_dict()
    content["abilities"]["other"]["ability"] = "damaged"
    sources = Sources.open(Recipe.from_dict(content), family.folder, ranked=False)
    with pytest.raises(CheckpointError, match=rf"damaged: tensor {name} holds inf at element 3"):
        measure(sources)
