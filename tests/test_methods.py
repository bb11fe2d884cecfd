"""Merge methods beside MAET: against a float64 reference, live against disk, in any pieces, and after a kill."""

import json
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from functools import cache
from pathlib import Path

import comparators
import numpy as np
import oracle
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import add_tokenizer, child_environment, layer_of, make_family, read_model, save_adapter, write_model

from maet_core import kernels
from maet_core.errors import CheckpointError, InputError, RecipeError
from maet_core.live import LiveModel
from maet_core.merging import merge, plan_merge
from maet_core.merging.combine import Combiner
from maet_core.merging.single_values import SingleValues
from maet_core.methods import METHODS
from maet_core.methods.vectors import elect_and_fuse
from maet_core.ranking import Cuts
from maet_core.recipe import Recipe
from maet_core.sources import Sources
from maet_core.weights.packs import write_pack

COMPARATORS = [name for name in METHODS if name != "maet"]
_folders = tempfile.TemporaryDirectory(prefix="maet-methods-")


@cache
def world(kind):
    """Four models of four layers; bfloat16 differences have many ties, a few tensors are the base's own."""
    architecture, dtype, changes = {
        "llama": ("llama", "bfloat16", {"tie_word_embeddings": True, "num_hidden_layers": 4}),
        "gpt2": ("gpt2", "float32", {"n_layer": 4}),
        "mixed": ("qwen2", "mixed", {"num_hidden_layers": 4}),
    }[kind]
    family = make_family(Path(_folders.name, kind), architecture, dtype=dtype, seed=5, untouched=0.1, **changes)
    add_tokenizer(family.path("base"))
    values = {name: oracle.to_float64(tensors) for name, tensors in family.tensors.items()}
    return family, values


def recipe_of(method, math=None, gamma=1.0, mus=(1.0, 1.0), **changes):
    content = {
        "base": "base",
        "method": method,
        "abilities": {"math": (math or {"ability": "ability"}) | {"gamma": gamma}},
        "languages": {"sw": {"checkpoint": "sw", "mu": mus[0]}, "te": {"checkpoint": "te", "mu": mus[1]}},
    }
    return Recipe.from_dict(content | changes)


# --- against the reference -----------------------------------------------------------------------------------------

shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) | st.integers(0, 100).map(lambda percent: percent / 100)
fuses = st.sampled_from(["mean", "weighted-mean", "sum"])
scales = st.sampled_from([1.0, 0.5, -1.5])
seeds = st.integers(0, 3)
settings_of = st.one_of(
    st.fixed_dictionaries({"name": st.just("task-arithmetic")}),
    st.fixed_dictionaries({"name": st.just("ties"), "density": shares, "fuse": fuses, "scale": scales}),
    st.fixed_dictionaries({"name": st.just("dare"), "density": shares, "seed": seeds}),
    st.fixed_dictionaries(
        {"name": st.just("dare-ties"), "density": shares, "fuse": fuses, "scale": scales, "seed": seeds}
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("della"),
            "density": st.sampled_from([0.25, 0.5, 0.75]),
            "epsilon": st.sampled_from([0.0, 0.1, 0.4]),
            "fuse": fuses,
            "scale": scales,
            "seed": seeds,
        }
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("breadcrumbs"),
            "density": shares.map(lambda share: share / 2),
            "outliers": st.sampled_from([0.0, 0.01, 0.3]),
        }
    ),
    st.fixed_dictionaries(
        {
            "name": st.just("layer-swap"),
            "bottom": st.integers(0, 1),
            "top": st.integers(0, 1),
            "transition": st.integers(0, 1),
        }
    ),
)
# exact in float32, so that the sign of a sum is not a matter of rounding
weights = st.sampled_from([1.0, 1.0, 0.75, 0.5, 2.0, -0.5, 0.0])


def smallest_chance(method):
    """By what the values that stay are divided at most."""
    if method["name"] in ("dare", "dare-ties", "della"):
        return max(method["density"] - method.get("epsilon", 0.0) / 2, 0.01)
    return 1.0


@settings(max_examples=40)
@given(kind=st.sampled_from(["llama", "gpt2", "mixed"]), method=settings_of, gamma=weights, mus=st.tuples(weights, weights), eta=weights, form=st.sampled_from(["plain", "Eq. 2", "pack"]))  # fmt: skip
@example("llama", {"name": "ties", "density": 0.2, "fuse": "mean", "scale": 1.0}, 1.0, (1.0, 1.0), 1.0, "Eq. 2")
@example("gpt2", {"name": "della", "density": 0.5, "epsilon": 0.4, "fuse": "mean", "scale": 1.0, "seed": 1}, 1.0, (1.0, 1.0), 1.0, "pack")  # fmt: skip
def test_every_value_is_that_of_the_papers_equations(kind, method, gamma, mus, eta, form):
    family, values = world(kind)
    base = values["base"]
    alpha, beta = (1.0, 0.0) if form == "plain" else (0.75, 0.5)
    ability = {"ability": "ability", "alpha": alpha}
    if beta:
        ability |= {"source_language": "source", "beta": beta}
    with tempfile.TemporaryDirectory(prefix="maet-method-") as scratch:
        if form == "pack":
            opened = Sources.open(Recipe.from_dict({"base": "base", "abilities": {"it": ability}}), family.folder)
            write_pack("ability", opened.abilities["it"], opened.base, Path(scratch, "pack.safetensors"), {})
            ability = {"pack": str(Path(scratch, "pack.safetensors"))}
        recipe = recipe_of(method, ability, gamma, mus, eta=eta)
        report = merge(recipe, family.folder, Path(scratch, "out"), device="cpu")
        found = read_model(Path(scratch, "out"))
    given_vectors = [
        ("abilities.math", gamma, lambda t: alpha * (values["ability"][t] - base[t]) - beta * (values["source"][t] - base[t])),
        ("languages.sw", eta * mus[0], lambda t: values["sw"][t] - base[t]),
        ("languages.te", eta * mus[1], lambda t: values["te"][t] - base[t]),
    ]  # fmt: skip
    unclear = changed = 0
    assert set(found) == set(base)
    for tensor, original in family.tensors["base"].items():
        vectors = [(key, w, tau(tensor)) for key, w, tau in given_vectors]
        added, size = comparators.added(method, vectors, tensor, layer_of(tensor), 4)
        expected = base[tensor] + added
        terms = np.abs(base[tensor]) + size
        if form != "plain":  # where the parts of Eq. 2 cancel, their own rounding shows, and is rescaled
            parts = sum(np.abs(values[member][tensor] - base[tensor]) for member in ("ability", "source"))
            terms = terms + parts * abs(gamma * method.get("scale", 1.0)) / smallest_chance(method)
        bound = oracle.ulp(expected, original.dtype) + 16 * 2.0**-24 * terms
        error = np.abs(found[tensor].double().numpy() - expected)
        assert found[tensor].dtype == original.dtype
        worst = np.unravel_index(np.argmax(np.nan_to_num(error - bound)), error.shape)
        assert ((error <= bound) | np.isnan(size)).all(), (tensor, worst, error[worst], bound[worst])
        unclear += int(np.isnan(size).sum())
        changed += int((found[tensor] != original).sum())
        untouched = torch.from_numpy(size == 0)
        width = {2: torch.int16, 4: torch.int32}[original.element_size()]
        assert torch.equal(found[tensor].view(width)[untouched], original.view(width)[untouched]), tensor
    assert unclear <= 0.02 * sum(tensor.numel() for tensor in found.values())
    assert report.parameters_changed == changed


def test_the_reference_knows_the_papers_examples():
    """By hand: what the figures of TIES show, and the ends of the windows of DELLA and layer swapping."""
    vectors = [("a", 1.0, np.array([3.0, -1.0, 0.0, 2.0])), ("b", 1.0, np.array([1.0, 2.0, -1.0, -3.0]))]
    assert list(comparators.elected(vectors, "mean", 1.0, exact=True)[0]) == [2.0, 2.0, -1.0, -3.0]
    assert list(comparators.top(np.array([0.5, -3.0, 2.0, -2.0]), 0.5)) == [False, True, True, False]
    assert list(comparators.row_ranks(np.array([0.1, -3.0, 2.0]))) == [0.0, 1.0, 0.5]
    assert [comparators.layer_share(i, 8, 2, 1, 1) for i in range(8)] == [0, 0, 0.5, 1, 1, 1, 0.5, 0]
    assert [comparators.layer_share(i, 6, 0, 0, 2) for i in range(6)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3]
    )


def test_a_method_works_on_adapters_too(tmp_path):
    family = make_family(tmp_path, "llama", dtype="float32", members=("sw",))
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"])
    method = {"name": "ties", "density": 0.5}
    recipe = Recipe.from_dict(
        {
            "base": "base",
            "method": method,
            "abilities": {"math": {"ability": "adapter"}},
            "languages": {"sw": {"checkpoint": "sw"}},
        }
    )
    merge(recipe, tmp_path, tmp_path / "out", device="cpu")
    lora = read_model(tmp_path / "adapter")
    base, sw = oracle.to_float64(family.tensors["base"]), oracle.to_float64(family.tensors["sw"])
    for tensor, merged in read_model(tmp_path / "out").items():
        prefix = "base_model.model." + tensor.removesuffix("weight")
        pair = [lora.get(f"{prefix}lora_{matrix}.weight") for matrix in "BA"]
        product = 2 * (pair[0] @ pair[1]).double().numpy() if pair[0] is not None else np.zeros(base[tensor].shape)
        vectors = [("abilities.math", 1.0, product), ("languages.sw", 1.0, sw[tensor] - base[tensor])]
        added, _ = comparators.added(method | {"fuse": "mean", "scale": 1.0}, vectors, tensor, None, 2)
        np.testing.assert_allclose(merged.numpy(), base[tensor] + added, rtol=1e-5, atol=1e-6)


def test_float64_models_are_merged_in_float64(tmp_path):
    family = make_family(tmp_path, "llama", dtype="float32", members=("ability", "sw", "te"))
    wide = {name: {k: v.double() * (1 + 1e-9) for k, v in t.items()} for name, t in family.tensors.items()}
    for name, tensors in wide.items():
        write_model(tmp_path / "wide" / name, family.config, tensors)
    for method in ({"name": "ties", "density": 0.5}, {"name": "della"}):
        merge(recipe_of(method), tmp_path / "wide", tmp_path / method["name"], device="cpu")
        full = recipe_of(method).method
        for tensor, merged in read_model(tmp_path / method["name"]).items():
            base = wide["base"][tensor].numpy()
            vectors = [
                (field, 1.0, wide[member][tensor].numpy() - base)
                for field, member in (("abilities.math", "ability"), ("languages.sw", "sw"), ("languages.te", "te"))
            ]
            added, _ = comparators.added({"name": full.name, **full.parameters}, vectors, tensor, None, 2)
            assert merged.dtype == torch.float64
            tolerance = 1e-14 if full.name == "ties" else 1e-6  # the chances of DELLA are float32
            np.testing.assert_allclose(merged.numpy(), base + added, rtol=tolerance, atol=tolerance)


# --- in any pieces, on any thread, live and on disk ------------------------------------------------------------------


@pytest.mark.parametrize("method", COMPARATORS)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_any_range_can_be_computed_alone(kind, method, monkeypatch):
    family, _ = world(kind)
    sources = Sources.open(recipe_of(method, gamma=0.75), family.folder)
    generator = np.random.default_rng(3)
    whole = {
        name: Combiner(plan_merge(sources)).chunk(name, 0, info.numel, info.code)[0]
        for name, info in sources.base.tensors.items()
    }
    monkeypatch.setattr(kernels, "CHUNK_ELEMENTS", 61)  # thresholds from small pieces
    monkeypatch.setattr(kernels, "RANGE_ELEMENTS", 244)
    again = plan_merge(Sources.open(sources.recipe, family.folder))
    for name, info in sources.base.tensors.items():
        start, stop = sorted(generator.integers(0, info.numel + 1, 2))
        part, _ = Combiner(again).chunk(name, int(start), int(stop), info.code)
        assert np.array_equal(part, whole[name][start:stop]), name


@settings(max_examples=30)
@given(method=settings_of.filter(lambda method: METHODS[method["name"]].steps), gamma=weights, mus=st.tuples(weights, weights), form=st.sampled_from(["plain", "Eq. 2", "adapter"]), seed=seeds)  # fmt: skip
def test_one_loop_does_what_the_function_says_bit_for_bit(method, gamma, mus, form, seed):
    family, _ = world("llama")
    ability = {"ability": "ability"}
    if form == "Eq. 2":
        ability |= {"source_language": "source", "alpha": 0.75, "beta": 0.5}
    if form == "adapter" and not family.path("adapter").exists():
        save_adapter(family.path("adapter"), family.path("base"), r=2, target_modules=["q_proj", "down_proj"])
    if form == "adapter":
        ability = {"ability": "adapter"}
    sources = Sources.open(recipe_of(method, ability, gamma, mus), family.folder)
    generator = np.random.default_rng(seed)
    for name, info in sources.base.tensors.items():
        start, stop = sorted(int(place) for place in generator.integers(0, info.numel + 1, 2))
        alone = SingleValues(plan_merge(sources))
        vectors, stored = alone.plan.addends(name), sources.base.values(name, start, stop)
        whole = (vectors, name, start, stop, stored, "BF16")
        (found, *told), (expected, *said) = alone.chunk(*whole), alone._by_function(*whole)
        assert np.array_equal(found, expected), name
        assert told == said == [np.count_nonzero(found != stored), True]


def test_a_result_that_is_too_large_and_an_input_that_is_damaged_are_told_apart(tmp_path):
    family = make_family(tmp_path, "llama", dtype="bfloat16", members=("ability", "sw", "te"))
    for method in ("ties", "dare", "della"):
        recipe = recipe_of({"name": method, "density": 0.5}, gamma=1e300, mus=(1e300, 1e300))
        with pytest.raises(InputError, match=r"^output.dtype: the merged tensor .* has a value beyond"):
            merge(recipe, tmp_path, tmp_path / "out", device="cpu")
    damaged = dict(family.tensors["sw"])
    tensor = "model.layers.1.mlp.up_proj.weight"
    damaged[tensor] = damaged[tensor].clone()
    damaged[tensor][3, 5] = float("nan")
    write_model(tmp_path / "sw", family.config, damaged)
    position = 3 * damaged[tensor].shape[1] + 5
    for method in ("ties", "dare", "della"):
        with pytest.raises(CheckpointError, match=rf"^sw: tensor {re.escape(tensor)} holds nan at element {position};"):
            merge(recipe_of({"name": method, "density": 0.5}), tmp_path, tmp_path / "out", device="cpu")


@pytest.mark.parametrize("method", ["ties", "dare-ties", "della"])
def test_threads_and_chunks_make_no_difference(tmp_path, monkeypatch, method):
    make_family(tmp_path, "llama", dtype="bfloat16", hidden_size=48, intermediate_size=80, vocab_size=111)
    recipe = recipe_of(method)
    merge(recipe, tmp_path, tmp_path / "whole", device="cpu")
    for constant in (
        "merging.combine.CHUNK_ELEMENTS",
        "merging.combine.RANGE_ELEMENTS",
        "kernels.CHUNK_ELEMENTS",
        "kernels.RANGE_ELEMENTS",
    ):
        monkeypatch.setattr(f"maet_core.{constant}", 97)
    monkeypatch.setattr("maet_core.merging.single_values.METHOD_STEP", 50)
    monkeypatch.setattr("maet_core.merging.writer.BLOCK_ELEMENTS", 1009)
    monkeypatch.setattr("maet_core.merging.writer.threads", lambda: 4)
    merge(recipe, tmp_path, tmp_path / "pieces", device="cpu")
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "pieces"))
    assert one == two


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_live_model_holds_the_bits_of_a_merge(tmp_path, kind):
    """Through every method and parameters between them, back and forth."""
    family, _ = world(kind)
    generator = np.random.default_rng(7)
    live = LiveModel(Sources.open(recipe_of("maet"), family.folder))
    steps = [recipe_of(name) for name in METHODS]
    for number in range(8):
        name = COMPARATORS[generator.integers(len(COMPARATORS))]
        recipe = recipe_of(
            name, gamma=float(generator.choice([0.0, 1.0, 0.3])), mus=(1.0, float(generator.choice([-0.7, 0.0])))
        )
        if "density" in recipe.method.parameters:
            recipe = recipe.with_value("method.density", [0.3, 0.5][number % 2])
        steps.append(recipe)
    for number, recipe in enumerate([*steps, recipe_of("maet")]):
        live.apply(recipe)
        assert live.apply(recipe).tensors == 0
        merge(recipe, family.folder, tmp_path / str(number), device="cpu")
        state = live.model.state_dict()
        for tensor, merged in read_model(tmp_path / str(number)).items():
            width = {2: torch.int16, 4: torch.int32}[merged.element_size()]
            assert torch.equal(merged.view(width), state[tensor].view(width)), (recipe.method, tensor)


def test_a_coefficient_does_not_look_for_thresholds_again(monkeypatch):
    family, _ = world("llama")
    live = LiveModel(Sources.open(recipe_of("ties"), family.folder))
    monkeypatch.setattr("maet_core.merging.vectors.largest", lambda *_, **__: pytest.fail("looked again"))
    assert live.apply(recipe_of("ties", gamma=0.5, mus=(0.25, 2.0))).tensors > 0


@pytest.mark.parametrize("method", ["{name: ties, density: 0.3}", "{name: dare, density: 0.5, seed: 3}"])
def test_a_killed_merge_goes_on_to_the_same_bytes(tmp_path, method):
    make_family(tmp_path, "llama", dtype="bfloat16")
    text = f"base: base\nmethod: {method}\nabilities: {{math: {{ability: ability}}}}\nlanguages: {{sw: {{checkpoint: sw}}}}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = Recipe.from_yaml(text)
    merge(recipe, tmp_path, tmp_path / "straight", device="cpu")
    program = textwrap.dedent("""
        import sys, time
        from maet_core.merging import combine, writer
        original = combine.Combiner.chunk
        combine.Combiner.chunk = lambda self, *arguments: time.sleep(0.15) or original(self, *arguments)
        writer.JOURNAL_SECONDS = 0
        writer.threads = lambda: 1
        from maet_core.merging import merge
        from maet_core.recipe import Recipe
        merge(Recipe.load("recipe.yaml"), ".", "out", device="cpu")
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=child_environment(),
        stderr=subprocess.PIPE,
    )
    journal, end = tmp_path / ".out.partial" / "journal.json", time.monotonic() + 90
    while not (journal.exists() and journal.read_text().count("weight") > 4):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out").exists()
    merge(recipe, tmp_path, tmp_path / "out", device="cpu")
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "out"))
    assert one == two


def test_a_threshold_is_looked_for_once_and_a_failure_is_not_kept():
    cuts, calls, waiting = Cuts(), [], threading.Barrier(4)

    def find():
        calls.append(1)
        time.sleep(0.05)
        if len(calls) == 1:
            raise ValueError("damaged")
        return "cut"

    with pytest.raises(ValueError, match="damaged"):
        cuts.get({"key": find})
    found = []
    threads = [
        threading.Thread(target=lambda: (waiting.wait(), found.extend(cuts.get({"key": find})))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["cut"] * 4
    assert len(calls) == 2


# --- the compiled loops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 5, 64, 300])
def test_ranks_are_those_of_a_stable_sort(width):
    generator = np.random.default_rng(width)
    values = (generator.normal(size=(6, width)) * 10.0 ** generator.integers(-30, 30, (6, width))).astype(np.float32)
    values[2:4] = np.round(generator.normal(size=(2, width)))  # many ties, and zeros of both signs
    values[4] = -0.0
    ranks = np.empty(values.size, np.int32)
    kernels.row_ranks(values.ravel().view(np.uint32), width, ranks)
    expected = np.abs(values).argsort(axis=1, kind="stable").argsort(axis=1)
    assert np.array_equal(ranks.reshape(values.shape), expected)


@pytest.mark.parametrize("fuse", ["mean", "weighted-mean", "sum"])
def test_the_election_is_the_same_in_both_precisions(fuse):
    """The compiled loop of float32 and the plain tensors of float64, on numbers that both hold exactly; zeros and sums of zero
    among them."""
    generator = np.random.default_rng(1)
    values = generator.integers(-2, 3, (3, 1000)).astype(np.float64)
    weights = [1.0, -0.5, 2.0]
    wide = elect_and_fuse(list(zip(weights, values, strict=True)), fuse)
    narrow = elect_and_fuse(list(zip(weights, values.astype(np.float32), strict=True)), fuse)
    assert narrow.dtype == np.float32
    assert np.array_equal(narrow, wide.astype(np.float32))
    expected, _ = comparators.elected([("", w, v) for w, v in zip(weights, values, strict=True)], fuse, 1.0, exact=True)
    np.testing.assert_allclose(wide, expected, rtol=1e-15)


# --- chance ----------------------------------------------------------------------------------------------------------


def test_the_random_numbers_are_splitmix64():
    """The numbers that are published for the seed 1234567, and the product's kernel from any position."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert comparators.splitmix64(1234567, 3).tolist() == published
    for key in (0, 1234567, (1 << 64) - 1):
        expected = (comparators.splitmix64(key, 100) >> np.uint64(40)) / 2**24
        for start, stop in ((0, 100), (37, 90), (99, 100), (5, 5)):
            found = np.empty(stop - start, np.float32)
            kernels.uniform(np.uint64(key), start, found)
            assert np.array_equal(found, expected[start:stop])


def test_the_random_numbers_are_even_and_independent():
    numbers = np.empty(1 << 20, np.float32)
    kernels.uniform(np.uint64(99), 0, numbers)
    other = np.empty(1 << 20, np.float32)
    kernels.uniform(np.uint64(100), 0, other)
    counts = np.bincount((numbers * 64).astype(int), minlength=64)
    assert (np.abs(counts - 16384) < 5 * 128).all()
    assert abs(np.corrcoef(numbers, other)[0, 1]) < 0.005
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.005


def test_dare_keeps_the_expectation(tmp_path):
    """Over many seeds the mean of the merged weights is that of the plain sum, within five standard errors."""
    family, values = world("gpt2")
    tensor = "transformer.h.0.mlp.c_fc.weight"
    tau, n = values["ability"][tensor] - values["base"][tensor], 200
    total = np.zeros(tau.shape)
    sources = Sources.open(recipe_of("dare", mus=(0.0, 0.0)), family.folder)
    for seed in range(n):
        recipe = recipe_of({"name": "dare", "density": 0.25, "seed": seed}, mus=(0.0, 0.0))
        merged, _ = Combiner(plan_merge(sources.with_coefficients(recipe))).chunk(tensor, 0, tau.size, "F32")
        total += merged.astype(np.float64).reshape(tau.shape) - values["base"][tensor]
    standard_error = np.abs(tau) * np.sqrt((1 / 0.25 - 1) / n)
    assert (np.abs(total / n - tau) <= 5 * standard_error + 1e-6).all()


# --- the recipe's field ----------------------------------------------------------------------------------------------


def test_the_default_is_maet_and_is_not_written():
    plain = Recipe.from_yaml("base: b\nabilities: {math: {ability: a}}")
    assert plain == Recipe.from_yaml("base: b\nmethod: maet\nabilities: {math: {ability: a}}")
    assert "method" not in plain.to_yaml()


@pytest.mark.parametrize("name", COMPARATORS)
def test_a_method_survives_the_yaml(name):
    recipe = recipe_of(name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert f"method: {name}\n" in recipe.to_yaml() or f"  name: {name}\n" in recipe.to_yaml()
    for parameter in METHODS[name].parameters:
        value = {"number": 0.5, "whole number": 3, "choice": "sum"}[parameter.kind]
        changed = recipe.with_value(f"method.{parameter.name}", value)
        assert changed.method.parameters == recipe.method.parameters | {parameter.name: value}
        assert Recipe.from_yaml(changed.to_yaml()) == changed
    assert recipe.with_value("method", "maet") == recipe_of("maet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiess", "method: found 'tiess', expected maet, task-arithmetic, .*"),
        ("5", "method: found 5, expected maet, .*"),
        ("null", "method: found None, expected maet, .*"),
        ("[ties]", r"method: found \['ties'\], expected maet, .*"),
        ("{density: 0.5}", "method: `name` is missing; write for example .*"),
        ("{name: ties, densty: 1}", "method.densty: unknown field; did you mean `density`[?]"),
        ("{name: task-arithmetic, density: 1}", "method.density: unknown field; known here: name"),
        ("{name: ties, density: 1.1}", "method.density: found 1.1, expected a number from 0 to 1"),
        ("{name: ties, density: -0.1}", "method.density: found -0.1, expected a number from 0 to 1"),
        ("{name: ties, density: .nan}", "method.density: found nan, expected a number from 0 to 1"),
        ("{name: ties, density: half}", "method.density: found 'half', expected a number from 0 to 1"),
        ("{name: ties, scale: .inf}", "method.scale: found inf, expected a number"),
        ("{name: ties, fuse: average}", "method.fuse: found 'average', expected mean or weighted-mean or sum"),
        ("{name: dare, seed: 0.5}", "method.seed: found 0.5, expected a whole number of at least 0"),
        ("{name: dare, seed: -1}", "method.seed: found -1, expected a whole number of at least 0"),
        ("{name: della, density: 0.05}", "method: density 0.05 .* epsilon 0.2"),
        (
            "{name: breadcrumbs, density: 0.8, outliers: 0.3}",
            "method: density 0.8 and outliers 0.3 .* take less of one",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_mend(text, message):
    with pytest.raises(RecipeError) as error:
        Recipe.from_yaml(f"base: b\nmethod: {text}\nabilities: {{math: {{ability: a}}}}")
    assert re.fullmatch(f"recipe: {message}", str(error.value))


@pytest.mark.parametrize(
    ("field", "content"),
    [("key_neurons", "{k1: 5}"), ("tensors", "{k2: 50}"), ("tensors", "{exclude: ['*norm*']}")],
)
def test_what_a_method_does_not_have_is_refused(field, content):
    text = f"base: b\nmethod: ties\nabilities: {{math: {{ability: a, {field}: {content}}}}}"
    with pytest.raises(
        RecipeError, match=rf"^recipe: abilities\.math\.{field}: a part of the method maet, and ties has none"
    ):
        Recipe.from_yaml(text)


def test_more_layers_than_there_are_is_an_error(tmp_path):
    family, _ = world("llama")
    recipe = recipe_of({"name": "layer-swap", "bottom": 2, "top": 1, "transition": 1})
    with pytest.raises(RecipeError, match=r"^method: .* 2 \+ 1 \+ 2 · 1 layers, but the model has 4; take fewer$"):
        merge(recipe, family.folder, tmp_path / "out", device="cpu")
    assert list(tmp_path.iterdir()) == []


# --- what is said of it ----------------------------------------------------------------------------------------------


def test_the_card_names_method_and_paper(tmp_path):
    family, _ = world("llama")
    merge(recipe_of("ties"), family.folder, tmp_path / "out", device="cpu")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Yadav et al. 2023, arXiv 2306.01708" in card
    assert "https://arxiv.org/abs/2306.01708" in card
    assert "- ties\n" in card
    assert "2410.07825" not in card


def test_the_command_lists_every_method(maet):
    found = json.loads(maet("methods", "--json").stdout)["methods"]
    assert [entry["name"] for entry in found] == list(METHODS)
    for entry in found:
        defaults = {parameter["name"]: parameter["default"] for parameter in entry["parameters"]}
        assert recipe_of({"name": entry["name"], **defaults}) == recipe_of(entry["name"])
        assert re.fullmatch(r"\d{4}\.\d{5}", entry["paper"]["arxiv"])
        assert entry["summary"].endswith(".")
        assert all(parameter["help"] for parameter in entry["parameters"])
    text = maet("methods").stdout
    assert all(name in text for name in METHODS)
