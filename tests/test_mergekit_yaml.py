"""Recipes as mergekit's YAML: mergekit runs it and gets our merge, and what it says comes back as the same recipe."""

import io
import re

import numpy as np
import oracle
import pytest
import torch
from models import make_family, read_model, save_adapter
from ruamel.yaml import YAML

from maet_core.errors import InputError
from maet_core.merging import merge
from maet_core.merging.exchange import filtered, to_mergekit
from maet_core.merging.mergekit_import import from_mergekit
from maet_core.recipe import Recipe

FOUR_LAYERS = {"llama": {"num_hidden_layers": 4, "tie_word_embeddings": True}, "gpt2": {"n_layer": 4}}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def family(request, tmp_path_factory):
    """Read-only, float32; every size is a multiple of four, so that both count the same share of a quarter."""
    folder = tmp_path_factory.mktemp(request.param)
    return make_family(folder, request.param, dtype="float32", seed=6, **FOUR_LAYERS[request.param])


def recipe_of(method="maet", mus=(0.5, 1.0), math=None, **changes):
    return Recipe.from_dict(
        {
            "base": "base",
            "method": method,
            "abilities": {"math": {"ability": "ability", "gamma": 0.75} | (math or {})},
            "languages": {"sw": {"checkpoint": "sw", "mu": mus[0]}, "te": {"checkpoint": "te", "mu": mus[1]}},
        }
        | changes
    )


def run_mergekit(text, output, seed=None):
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    LoaderCache().loaders.clear()  # it knows models by the path as written
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False, random_seed=seed)
    content = YAML(typ="safe", pure=True).load(text)
    run_merge(MergeConfiguration.model_validate(content), str(output), options)
    return read_model(output)


def both(recipe, family, tmp_path, **options):
    """Our merge and that of mergekit from the exported YAML."""
    merge(recipe, family.folder, tmp_path / "ours", device="cpu")
    theirs = run_mergekit(to_mergekit(recipe, family.folder), tmp_path / "theirs", **options)
    ours = read_model(tmp_path / "ours")
    assert set(ours) == set(theirs)
    return ours, theirs


EQUAL = {
    "Eq. 4": recipe_of(math={"source_language": "source", "alpha": 1.5, "beta": 0.5, "tensors": {"k2": 50.0}}, eta=0.5),
    "Eq. 4 by hand": recipe_of(
        math={"tensors": {"k2": 0.0, "include": ["layer:1-2"], "exclude": ["module:norm"]}}, eta=2.0
    ),
    "a model twice": recipe_of(languages={"sw": {"checkpoint": "ability", "mu": -0.5}, "te": {"checkpoint": "te"}}),
    "task arithmetic": recipe_of("task-arithmetic", eta=-0.5),
    "layer swapping": recipe_of({"name": "layer-swap", "bottom": 0, "top": 1, "transition": 1}),
    # the one choice of coefficients for which both divide by the same: mergekit's mean is weighted
    "ties, mean": recipe_of({"name": "ties", "density": 0.25, "scale": 1.5}, mus=(0.75, 0.75)),
    "ties, weighted mean": recipe_of({"name": "ties", "density": 0.25, "fuse": "weighted-mean"}),
    "ties, sum": recipe_of({"name": "ties", "density": 0.25, "fuse": "sum", "scale": 0.5}, mus=(-0.5, 1.0)),
    "ties, all kept": recipe_of({"name": "ties", "density": 1.0, "fuse": "sum"}),
    "breadcrumbs": recipe_of({"name": "breadcrumbs", "density": 0.25, "outliers": 0.125}),
    "breadcrumbs without outliers": recipe_of({"name": "breadcrumbs", "density": 0.5, "outliers": 0.0}),
}


@pytest.mark.parametrize("case", EQUAL)
def test_mergekit_makes_the_same_model(family, tmp_path, case):
    """Both add in float32, perhaps in another order: a few roundings, but no value more or less that is kept."""
    ours, theirs = both(EQUAL[case], family, tmp_path)
    base = family.tensors["base"]
    size = {
        name: sum((family.tensors[m][name] - tensor).abs() for m in ("ability", "source", "sw", "te")) * 2
        + tensor.abs()
        for name, tensor in base.items()
    }
    moved = 0
    for name, tensor in ours.items():
        assert ((tensor - theirs[name]).abs() <= 16 * 2.0**-24 * size[name]).all(), name
        assert torch.equal(tensor != base[name], theirs[name] != base[name]), name
        moved += int((tensor != base[name]).sum())
    assert moved


def test_bfloat16_is_written_where_the_recipe_says_so(family, tmp_path):
    recipe = recipe_of({"name": "ties", "density": 0.25, "fuse": "sum"}, output={"dtype": "bfloat16"})
    ours, theirs = both(recipe, family, tmp_path)
    different = 0
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.bfloat16
        step = oracle.ulp(tensor.double().numpy(), torch.bfloat16)
        assert (np.abs(tensor.double().numpy() - theirs[name].double().numpy()) <= step).all()
        different += int((tensor != theirs[name]).sum())
    assert different <= 0.001 * sum(tensor.numel() for tensor in ours.values())


@pytest.mark.parametrize(
    "method",
    [
        {"name": "dare", "density": 0.25},
        {"name": "dare-ties", "density": 0.25, "fuse": "sum"},
        {"name": "della", "density": 0.5, "epsilon": 0.4, "fuse": "sum"},
    ],
)
def test_chance_is_the_same_in_the_mean(family, tmp_path, method):
    """One vector, so that what is kept can be seen. As many values stay (of DELLA more large ones than small ones, in the
    same proportion). We divide by the chance to stay; mergekit scales all values so that Σ|τ| is what it was: on average,
    and for DELLA only about, the same factor."""
    recipe = recipe_of(method, math={"gamma": 1.0}, languages={})
    ours, theirs = both(recipe, family, tmp_path, seed=1)
    names = [name for name, tensor in ours.items() if tensor.ndim == 2]  # the small ones tell nothing
    tau = torch.cat([(family.tensors["ability"][n] - family.tensors["base"][n]).flatten() for n in names])
    half = torch.cat(
        [
            (
                (t := (family.tensors["ability"][n] - family.tensors["base"][n]).abs())
                > t.median(1, keepdim=True).values
            ).flatten()
            for n in names
        ]
    )
    kept, factor = [], []
    for merged in (ours, theirs):
        moved = torch.cat([(merged[n] - family.tensors["base"][n]).flatten() for n in names])
        kept.append([float((moved[part] != 0).double().mean()) for part in (half, ~half)])
        factor.append(float((moved * tau).sum() / (tau * tau)[moved != 0].sum()))
    for large, small in kept:
        spread = method.get("epsilon", 0.0) / 4  # from the middle to the mean of a half
        assert large == pytest.approx(method["density"] + spread, abs=0.03)
        assert small == pytest.approx(method["density"] - spread, abs=0.03)
    if method["name"] == "della":
        assert factor[0] == pytest.approx(factor[1], rel=0.1)
    else:
        assert factor[0] == pytest.approx(factor[1], rel=0.05)
        assert factor[0] == pytest.approx(1 / method["density"], rel=1e-4)


@pytest.mark.parametrize(
    "case", [case for case in EQUAL if recipe_of().method != EQUAL[case].method and "layer" not in case]
)
def test_what_is_exported_comes_back_as_the_same_merge(family, tmp_path, case):
    text = to_mergekit(EQUAL[case], family.folder)
    again = from_mergekit(text)
    merge(EQUAL[case], family.folder, tmp_path / "first", device="cpu")
    merge(again, tmp_path, tmp_path / "second", device="cpu")
    first, second = read_model(tmp_path / "first"), read_model(tmp_path / "second")
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-6, atol=1e-6)
    assert again.method.name == EQUAL[case].method.name


# --- what mergekit's own users write ---------------------------------------------------------------------------------

THEIRS = {
    "ties": """
merge_method: ties
base_model: base
models:
  - model: base
  - model: ability
    parameters: {weight: 0.5, density: 0.25}
  - model: sw
    parameters: {weight: 1}
parameters: {density: 0.25, int8_mask: true}
dtype: float32
""",
    "ties, not normalized": """
merge_method: ties
base_model: base
models: [{model: ability, parameters: {weight: -0.5}}, {model: sw, parameters: {weight: 1.5}}]
parameters: {density: 0.5, normalize: false, lambda: 0.5}
dtype: float32
""",
    "task arithmetic, normalized": """
merge_method: task_arithmetic
base_model: base
models: [{model: ability, parameters: {weight: 0.5}}, {model: ./sw, parameters: {weight: 1.5}}]
parameters: {normalize: true, lambda: 2}
dtype: float32
out_dtype: float32
""",
    "breadcrumbs": """
merge_method: breadcrumbs
base_model: base
models: [{model: ability, parameters: {weight: 0.5}}, {model: sw, parameters: {weight: 1.5}}]
parameters: {density: 0.5, gamma: 0.125}
dtype: float32
""",
}


@pytest.mark.parametrize("case", THEIRS)
def test_their_yaml_makes_the_model_that_they_make(family, tmp_path, monkeypatch, case):
    monkeypatch.chdir(family.folder)
    theirs = run_mergekit(THEIRS[case], tmp_path / "theirs")
    merge(from_mergekit(THEIRS[case]), tmp_path, tmp_path / "ours", device="cpu")
    for name, tensor in read_model(tmp_path / "ours").items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)


def test_parameters_of_what_is_random_are_translated():
    text = """
merge_method: della
base_model: org/base
models: [{model: org/one@v2, parameters: {weight: 0.5}}, {model: org/one, parameters: {weight: 1}}]
parameters: {density: 0.5, epsilon: 0.1, normalize: false, lambda: 1.1}
dtype: bfloat16
tokenizer_source: base
"""
    recipe = from_mergekit(text)
    assert recipe.method.parameters == {"density": 0.5, "epsilon": 0.2, "fuse": "sum", "scale": 1.1, "seed": 0}
    assert {name: (a.ability, a.gamma) for name, a in recipe.abilities.items()} == {
        "one": ("org/one@v2", 0.5),
        "one-2": ("org/one", 1.0),
    }
    assert (recipe.base, recipe.output.dtype) == ("org/base", "bfloat16")


BASE = {
    "merge_method": "ties",
    "base_model": "b",
    "models": [{"model": "m", "parameters": {"weight": 1.0, "density": 0.5}}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_method": "slerp"}, "merge_method: found 'slerp', expected task_arithmetic, ties, .*"),
        ({"slices": []}, "slices: has no counterpart in a recipe; known here: .*"),
        ({"tokenizer_source": "union"}, "tokenizer_source: only base is known here; remove it"),
        ({"base_model": None}, "base_model: found None, expected a path or hub id"),
        ({"models": []}, "models: expected a list of models"),
        ({"models": ["m"]}, r"models\[0\]: found 'm', expected `model` and `parameters`"),
        ({"models": [{"model": "b"}]}, "models: nothing but the base; .*"),
        ({"models": [{"model": "m+lora", "parameters": {"weight": 1}}]}, r"models\[0\].model: found 'm\+lora'; .*"),
        ({"models": [{"model": "m"}]}, r"models\[0\].parameters.weight: it is missing, expected one number"),
        ({"models": [{"model": "m", "parameters": {"weight": [0, 1]}}]}, r"models\[0\].parameters.weight: found \[0, 1\], expected one number"),
        ({"models": [{"model": "m", "parameters": {"weight": True}}]}, r"models\[0\].parameters.weight: found True, .*"),
        ({"models": [{"model": "m", "parameters": {"weight": 1, "gamma": 1}}]}, r"models\[0\].parameters.gamma: has no counterpart .*"),
        ({"models": [{"model": m, "parameters": {"weight": 1, "density": d}} for m, d in (("m", 0.5), ("n", 0.25))]}, "models: density differs between the models; .*"),
        ({"models": [{"model": "m", "parameters": {"weight": -1}}]}, "parameters.normalize: a mean over negative weights .*"),
        ({"parameters": {"normalize": "yes"}}, "parameters.normalize: found 'yes', expected true or false"),
        ({"parameters": {"lambda": "big"}}, "parameters.lambda: found 'big', expected a number"),
        ({"parameters": {"rescale": True}}, "parameters.rescale: here what ties keeps is never rescaled; remove it"),
        ({"parameters": {"weights": 1}}, "parameters.weights: has no counterpart .*"),
        ({"dtype": "int8"}, "output.dtype: found 'int8', expected .*"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(change, message):
    stream = io.StringIO()
    YAML().dump(BASE | change, stream)
    with pytest.raises(InputError) as error:
        from_mergekit(stream.getvalue(), "theirs.yaml")
    assert re.fullmatch(f"theirs.yaml: {message}", str(error.value)), error.value


@pytest.mark.parametrize("text", ["- a\n", "a: [", ""])
def test_what_is_no_yaml_mapping_is_refused(text):
    with pytest.raises(InputError, match=r"^theirs\.yaml: "):
        from_mergekit(text, "theirs.yaml")


# --- what mergekit cannot say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (recipe_of(math={"key_neurons": {"k1": 5.0}}), "abilities.math.key_neurons: cannot be written .* no key neurons"),
        (recipe_of("ties", math={"source_language": "source", "beta": 0.5}), "abilities.math.beta: .* Eq. 2 in ties; set it to 0"),
        (recipe_of("ties", mus=(1.0, 0.5)), "method.fuse: .* take weighted-mean or sum"),
        (recipe_of({"name": "ties", "fuse": "weighted-mean"}, mus=(1.0, -1.0)), "method.fuse: .* take sum"),
        (recipe_of("dare", math={"ability": "sw"}), "recipe: .* the same checkpoint.*"),
        (Recipe.from_dict({"base": "base"}), "recipe: .* adds nothing to the base"),
        (recipe_of("ties", mus=(1.0, 1.0)).with_value("scales", [{"tensors": "layer:0"}]), "scales: .* one weight a model here; remove them"),
    ],
)  # fmt: skip
def test_what_mergekit_cannot_say_is_refused(family, recipe, message):
    with pytest.raises(InputError) as error:
        to_mergekit(recipe, family.folder)
    assert re.fullmatch(message, str(error.value)), error.value


def test_adapters_and_other_dtypes_are_refused(tmp_path):
    make_family(tmp_path, "llama", dtype="mixed", members=("ability",))
    recipe = Recipe.from_dict({"base": "base", "abilities": {"math": {"ability": "ability"}}})
    with pytest.raises(InputError, match=r"^output\.dtype: .* one dtype, and the base has others; name one$"):
        to_mergekit(recipe, tmp_path)
    save_adapter(tmp_path / "adapter", tmp_path / "base", r=2, target_modules=["q_proj"])
    with pytest.raises(InputError, match=r"^abilities\.math: .* adapters are not written for mergekit"):
        to_mergekit(recipe.with_value("abilities.math.ability", "adapter"), tmp_path)


def test_filters_reach_the_tensor_they_name_and_no_other():
    """mergekit's rule: a filter is part of the name, the first that fits counts."""
    names = ["norm.weight", "layers.1.norm.weight", "layers.11.norm.weight", "layers.1.mlp", "1.mlp", "embed"]
    generator = np.random.default_rng(0)
    for _ in range(50):
        by_name = {name: float(generator.choice([0.0, 1.0, 2.0])) for name in names}
        setting = filtered(by_name)
        entries = setting if isinstance(setting, list) else [{"value": setting}]
        for name, value in by_name.items():
            assert next(e["value"] for e in entries if e.get("filter", "") in name) == value


def test_the_commands(family, tmp_path, maet):
    EQUAL["ties, sum"].save(tmp_path / "recipe.yaml")
    for name in ("base", "ability", "sw", "te"):
        (tmp_path / name).symlink_to(family.path(name))
    out = maet("export", tmp_path / "recipe.yaml", "-o", tmp_path / "theirs.yaml")
    assert (out.status, out.stderr) == (0, "")
    assert maet("import", tmp_path / "theirs.yaml", "-o", tmp_path / "again.yaml").status == 0
    assert Recipe.load(tmp_path / "again.yaml").method == EQUAL["ties, sum"].method
    refused = maet("export", tmp_path / "recipe.yaml", "-o", tmp_path / "theirs.yaml")
    assert (refused.status, "exists already" in refused.stderr) == (2, True)
    missing = maet("import", tmp_path / "nothing.yaml", "-o", tmp_path / "new.yaml")
    assert (missing.status, len(missing.stderr.splitlines())) == (2, 1)
    (tmp_path / "odd.yaml").write_text("merge_method: slerp\n")
    odd = maet("import", tmp_path / "odd.yaml", "-o", tmp_path / "new.yaml")
    assert (odd.status, odd.stderr.startswith("maet: ")) == (2, True)
    assert not (tmp_path / "new.yaml").exists()
