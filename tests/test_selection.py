"""T_i: similarities, the k2 rule with its ties, what the hand changes, and the instant answer for other coefficients."""

import numpy as np
import oracle
import pytest
import torch
from models import located, make_family, skeleton, write_model

from maet_core import kernels
from maet_core.errors import Cancelled, CheckpointError, RecipeError
from maet_core.recipe import Recipe
from maet_core.selection import measure
from maet_core.similarity.bits import from_bits
from maet_core.similarity.values import from_values
from maet_core.sources import Sources


def recipe_of(rule=None, languages=None, **ability):
    return Recipe.from_dict(
        {
            "base": "base",
            "abilities": {"math": {"ability": "ability", **ability, "tensors": rule or {}}},
            "languages": {"sw": {"checkpoint": "sw"}} if languages is None else languages,
        }
    )


def select(folder, recipe):
    return measure(Sources.open(recipe, folder)).select(recipe)["math"]


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return make_family(
        tmp_path_factory.mktemp("selection"), "llama", ("ability", "source", "sw", "te"), "bfloat16", untouched=0.2
    )


def write_changes(folder, changes):
    """base is zero; members get `changes[member][tensor name]` as their flat beginnings."""
    frame = skeleton("llama")
    base = {name: torch.zeros(shape) for name, shape in frame.shapes.items()}
    write_model(folder / "base", frame.config, base)
    for member, tensors in changes.items():
        content = {name: tensor.clone() for name, tensor in base.items()}
        for name, values in tensors.items():
            content[name].view(-1)[: len(values)] = torch.tensor(values)
        write_model(folder / member, frame.config, content)
    return sorted(base)


def test_candidates_are_the_tensors_that_the_ability_changed(tmp_path):
    names = write_changes(
        tmp_path,
        {
            "ability": {"model.norm.weight": [1.0], "lm_head.weight": [0.0, 2.0], "model.embed_tokens.weight": [3.0]},
            "sw": {"model.norm.weight": [1.0], "lm_head.weight": [1.0], "model.layers.0.mlp.up_proj.weight": [1.0]},
        },
    )
    selection = select(tmp_path, recipe_of({"k2": 100}))
    assert len(names) > 3
    rows = {row.name: row for row in selection.rows}
    assert list(rows) == ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"]
    assert rows["model.norm.weight"].cosine == pytest.approx(1.0)
    assert rows["lm_head.weight"].cosine == 0.0  # orthogonal
    assert rows["model.embed_tokens.weight"].cosine == 0.0  # no language changed it: 0 by definition
    assert rows["lm_head.weight"].norm == pytest.approx(2.0)


def test_ties_go_by_name_and_counts_are_rounded_half_up(tmp_path):
    names = [f"model.layers.{layer}.mlp.{module}_proj.weight" for layer in (0, 1) for module in ("down", "gate", "up")]
    names = sorted(names)
    same = {name: [1.0, 2.0] for name in names}
    write_changes(tmp_path, {"ability": same, "sw": {name: [2.0, 4.0] for name in names}})
    for k2, count in ((0, 0), (8.3, 0), (8.34, 1), (25, 2), (41.66, 2), (41.67, 3), (50, 3), (91.7, 6), (100, 6)):
        selection = select(tmp_path, recipe_of({"k2": k2}))
        assert count == oracle.count_of(k2, 6)
        assert sorted(selection.tensors) == names[:count], k2


def test_what_differs_in_the_last_bits_only_is_a_tie(tmp_path):
    """Parallel vectors all have similarity 1, whatever their lengths and however the sums round."""
    frame = skeleton("llama")
    base = {name: torch.zeros(shape) for name, shape in frame.shapes.items()}
    generator = torch.Generator().manual_seed(3)
    ability = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in base.items()}
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "ability", frame.config, ability)
    write_model(tmp_path / "sw", frame.config, {name: 4 * tensor for name, tensor in ability.items()})
    names = sorted(base)
    for k2 in (10, 50, 90):
        selection = select(tmp_path, recipe_of({"k2": k2}, {"sw": {"checkpoint": "sw", "mu": 0.3}}, alpha=0.7))
        assert len({row.cosine for row in selection.rows}) > 1  # or the rounding of similarities has nothing to do
        assert sorted(selection.tensors) == names[: oracle.count_of(k2, len(names))]


def test_the_lowest_similarity_comes_first(tmp_path):
    order = [
        "model.layers.1.mlp.up_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.layers.0.mlp.up_proj.weight",
    ]
    cosines = [-1.0, -0.2, 0.3, 0.9]
    angles = {name: [float(c), float(np.sqrt(1 - c * c))] for name, c in zip(order, cosines, strict=True)}
    write_changes(tmp_path, {"ability": {name: [5.0] for name in order}, "sw": angles})
    for count in range(5):
        selection = select(tmp_path, recipe_of({"k2": 25 * count}))
        assert selection.tensors == set(order[:count])
    for row in selection.rows:
        assert row.cosine == pytest.approx(cosines[order.index(row.name)], abs=1e-7)


def test_what_the_rule_did_and_what_the_hand_did(family):
    plain = select(family.folder, recipe_of({"k2": 50}))
    by_rule = set(plain.tensors)
    assert all(row.by == "rule" for row in plain.rows)
    changed = select(family.folder, recipe_of({"k2": 50, "include": ["layer:0"], "exclude": ["module:down_proj"]}))
    for row in changed.rows:
        wanted = row.name in by_rule or row.layer == 0
        wanted = wanted and "down_proj" not in row.name
        assert row.selected == wanted, row
        assert row.by == ("rule" if wanted == (row.name in by_rule) else "hand"), row


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [
        ("*", lambda name: True),
        ("model.layers.1.*", lambda name: name.startswith("model.layers.1.")),
        ("*.mlp.down_proj.weight", lambda name: "down_proj" in name),
        ("model.layers.?.self_attn.[qk]_proj.weight", lambda name: "q_proj" in name or "k_proj" in name),
        ("model.norm.weight", lambda name: name == "model.norm.weight"),
        ("layer:1", lambda name: ".layers.1." in name),
        ("layer:0-1", lambda name: ".layers." in name),
        ("module:norm", lambda name: "norm" in name),
        ("module:embed_tokens", lambda name: "embed_tokens" in name),
    ],
)
def test_patterns(family, pattern, hits):
    candidates = {row.name for row in select(family.folder, recipe_of({"k2": 0})).rows}
    expected = {name for name in candidates if hits(name)}
    assert expected
    assert select(family.folder, recipe_of({"k2": 0, "include": [pattern]})).tensors == expected
    assert select(family.folder, recipe_of({"k2": 100, "exclude": [pattern]})).tensors == candidates - expected
    assert select(family.folder, recipe_of({"include": ["*"], "exclude": [pattern]})).tensors == candidates - expected


def test_layers_are_numbers_and_not_texts(tmp_path):
    """`layer:1` is not layer 10 to 12, and `layer:2-10` holds 2 to 10."""
    make_family(tmp_path, "llama", ("ability", "sw"), num_hidden_layers=12)
    for pattern, layers in (("layer:1", {1}), ("layer:2-10", set(range(2, 11))), ("layer:11", {11})):
        selection = select(tmp_path, recipe_of({"k2": 0, "include": [pattern]}))
        assert {row.layer for row in selection.rows if row.selected} == layers


def test_fused_tensors_are_found_by_their_parts(tmp_path):
    make_family(tmp_path, "phi3", ("ability", "sw"))
    for module in ("q_proj", "qkv_proj"):
        selection = select(tmp_path, recipe_of({"k2": 0, "include": [f"module:{module}"]}))
        assert selection.tensors == {f"model.layers.{layer}.self_attn.qkv_proj.weight" for layer in (0, 1)}


@pytest.mark.parametrize("field", ["include", "exclude"])
@pytest.mark.parametrize("pattern", ["*.nothing.*", "layer:7", "module:q", "layer:x", "layer:", "layer:1-", "module:"])
def test_a_pattern_without_a_match_is_an_error(family, field, pattern):
    with pytest.raises(RecipeError, match=rf"abilities\.math\.tensors\.{field}.*{pattern[:6].replace('*', '.')}"):
        select(family.folder, recipe_of({field: [pattern]}))


def test_other_coefficients_need_no_other_look_at_the_weights(family, monkeypatch):
    languages = {"sw": {"checkpoint": "sw", "mu": 1.0}, "te": {"checkpoint": "te", "mu": 0.5}}
    recipe = recipe_of({"k2": 40}, languages, source_language="source", beta=0.5)
    measured = measure(Sources.open(recipe, family.folder))
    values = {key: oracle.to_float64(tensors) for key, tensors in family.tensors.items()}
    base = values["base"]
    monkeypatch.setattr(
        "maet_core.safetensors_file.SafetensorsFile.read", lambda *arguments: pytest.fail("weights were read")
    )
    generator = np.random.default_rng(0)
    for _ in range(10):
        alpha, beta, one, two = generator.uniform(-2, 2, 4).round(2)
        k2 = float(generator.integers(0, 101))
        changed = recipe
        for field, value in (
            ("abilities.math.alpha", alpha),
            ("abilities.math.beta", beta),
            ("languages.sw.mu", one),
            ("languages.te.mu", two),
            ("abilities.math.tensors.k2", k2),
        ):
            changed = changed.with_value(field, float(value))
        found = measured.select(changed)["math"]
        ability = oracle.ability_weights(base, values["ability"], values["source"], alpha, beta)
        parts = [(mu, {n: values[member][n] - base[n] for n in base}) for mu, member in ((one, "sw"), (two, "te"))]
        expected = oracle.select(ability, oracle.language_sum(parts, base), k2)
        assert found.tensors == expected.tensors
        for row in found.rows:
            assert row.cosine == pytest.approx(expected.cosines[row.name], abs=1e-9)


def test_sums_that_cancel_are_computed_from_the_weights(tmp_path):
    """α(θ_A − θ_o) − β(θ_L0 − θ_o) of two nearly equal models: inner products alone would have lost every digit.

    The base is zero, so that the differences themselves are exact in float32."""
    frame = skeleton("llama")
    generator = torch.Generator().manual_seed(1)
    base = {name: torch.zeros(shape) for name, shape in frame.shapes.items()}
    common = {name: torch.randn(base[name].shape, generator=generator) for name in base}
    tiny = {name: 1e-6 * torch.randn(base[name].shape, generator=generator) for name in base}
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "source", frame.config, common)
    ability = {name: (common[name] + tiny[name]) for name in base}
    write_model(tmp_path / "ability", frame.config, ability)
    sw = {name: tiny[name] + 1e-6 * torch.randn(base[name].shape, generator=generator) for name in base}
    write_model(tmp_path / "sw", frame.config, sw)
    recipe = recipe_of({"k2": 50}, None, source_language="source", alpha=1.0, beta=1.0)
    selection = select(tmp_path, recipe)
    values = [oracle.to_float64(model) for model in (base, ability, common, sw)]
    weights = oracle.ability_weights(values[0], values[1], values[2], 1.0, 1.0)
    language = {name: values[3][name] - values[0][name] for name in base}
    expected = oracle.select(weights, language, 50)
    assert {row.name for row in selection.rows} == set(expected.cosines)
    for row in selection.rows:
        assert row.cosine == pytest.approx(expected.cosines[row.name], abs=1e-9), row.name
    assert selection.tensors == expected.tensors


def test_equal_models_cancel_exactly(family):
    recipe = recipe_of({"k2": 100}, None, source_language="ability", alpha=1.5, beta=1.5)
    assert select(family.folder, recipe).rows == ()
    recipe = recipe_of({"k2": 100}, {"sw": {"checkpoint": "sw", "mu": 1.0}, "again": {"checkpoint": "sw", "mu": -1.0}})
    assert {row.cosine for row in select(family.folder, recipe).rows} == {0.0}


def test_without_languages_every_similarity_is_zero_and_names_decide(family):
    selection = select(family.folder, recipe_of({"k2": 10}, {}))
    assert {row.cosine for row in selection.rows} == {0.0}
    names = sorted(row.name for row in selection.rows)
    assert sorted(selection.tensors) == names[: oracle.count_of(10, len(names))]


def test_key_neurons_narrow_the_candidates(family):
    keys = {"k1": 1.0, "granularity": "unit"}
    selection = select(family.folder, recipe_of({"k2": 100}, None, key_neurons=keys))
    everything = select(family.folder, recipe_of({"k2": 100}))
    assert selection.tensors < everything.tensors
    assert selection.tensors <= set(located(family.tensors["base"]))


def test_abilities_choose_each_for_themselves(family):
    recipe = Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {"ability": "ability", "tensors": {"k2": 20}},
                "science": {"ability": "source", "tensors": {"k2": 70}},
            },
            "languages": {"sw": {"checkpoint": "sw"}},
        }
    )
    selections = measure(Sources.open(recipe, family.folder)).select(recipe)
    for ability, member, k2 in (("math", "ability", 20), ("science", "source", 70)):
        alone = Recipe.from_dict(
            {
                "base": "base",
                "abilities": {"math": {"ability": member, "tensors": {"k2": k2}}},
                "languages": {"sw": {"checkpoint": "sw"}},
            }
        )
        assert selections[ability].tensors == select(family.folder, alone).tensors


def test_measuring_can_be_stopped(family):
    calls = []
    with pytest.raises(Cancelled):
        measure(Sources.open(recipe_of(), family.folder), halted=lambda: calls.append(1) or len(calls) > 3)
    assert len(calls) == 4


def test_progress_goes_from_nothing_to_all(family):
    told = []
    measure(Sources.open(recipe_of(), family.folder), lambda phase, done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] <= told[-1][1]


@pytest.mark.parametrize(
    "keys",
    [None, {"k1": 30.0}, {"k1": 100.0}, {"k1": 30.0, "scope": "per-tensor"}, {"k1": 30.0, "granularity": "unit"},
     {"k1": 30.0, "method": "random"}],
)  # fmt: skip
def test_one_loop_over_bits_measures_what_arrays_of_values_do(tmp_path, monkeypatch, keys):
    """Two abilities and five languages, few distinct values (so that the threshold has ties), and tensors that some lack."""
    members = ("ability", "source", "other", *"abcd")
    family = make_family(
        tmp_path, "llama", members, dtype="bfloat16", density=0.6, untouched=0.3, num_key_value_heads=1
    )
    recipe = Recipe.from_dict(
        {
            "base": "base",
            "abilities": {
                "math": {"ability": "ability", "source_language": "source", "beta": 0.5, "key_neurons": keys},
                "other": {"ability": "other", "key_neurons": keys and keys | {"k1": 60.0}},
            },
            "languages": {name: {"checkpoint": name} for name in ("a", "b", "c", "d", "source")},
        }
    )
    sources = Sources.open(recipe, family.folder)
    monkeypatch.setattr("maet_core.similarity.bits._SMALL", 0)
    compared = 0
    for length in (1 << 19, 50):
        monkeypatch.setattr(kernels, "RANGE_ELEMENTS", length)
        for name in sources.base.tensors:
            touching = {key: weights for key, weights in sources.abilities.items() if weights.touches(name)}
            if touching:
                found = from_bits(sources, name, touching, {})
                if found is None:  # an ability did not change its key neurons here
                    continue
                compared += 1
                expected = from_values(sources, name, touching)
                assert found.keys() == expected.keys()
                for key, gram in expected.items():
                    lengths = np.sqrt(np.diag(gram))
                    assert (np.abs(found[key] - gram) <= 1e-6 * np.outer(lengths, lengths)).all(), f"{name} {key}"
    assert compared > 20


def test_one_loop_over_bits_leaves_what_is_not_finite_to_the_arrays(tmp_path):
    family = make_family(tmp_path, "llama", dtype="bfloat16")
    tensors = dict(family.tensors["sw"])
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].clone()
    tensors[name][3, 4] = float("inf")
    write_model(family.path("sw"), family.config, tensors)
    with pytest.raises(CheckpointError, match=rf"sw: tensor {name} holds inf at element {3 * 16 + 4}"):
        measure(Sources.open(recipe_of(), family.folder))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "keys", [{"k1": 5.0}, {"k1": 5.0, "method": "random"}, {"k1": 30.0, "granularity": "unit"}], ids=str
)
def test_what_is_not_finite_is_told_outside_of_key_neurons_too(tmp_path, dtype, bad, keys):
    """As a merge tells it: the model is damaged, whether or not this recipe takes the value."""
    family = make_family(tmp_path, "llama", dtype=dtype, members=("ability", "source", "sw"))
    recipe = recipe_of(source_language="source", beta=0.5, key_neurons=keys)
    name = "model.layers.0.mlp.up_proj.weight"
    key = Sources.open(recipe, family.folder).abilities["math"].key_neurons.mask(name)
    position = int(torch.nonzero(~key)[0])
    assert key.any()
    tensors = dict(family.tensors["source"])
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[position] = bad
    write_model(family.path("source"), family.config, tensors)
    with pytest.raises(CheckpointError, match=rf"^source: tensor {name} holds {bad} at element {position};"):
        measure(Sources.open(recipe, family.folder))
