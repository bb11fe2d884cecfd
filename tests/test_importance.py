"""Locating key neurons: scores, their file, exact counts at ties and at 0 and 100 %, and the tables behind the heatmap."""

import json

import numpy as np
import oracle
import pytest
import torch
from models import (
    build,
    layer_of,
    located,
    make_family,
    modules_of,
    random_tensors,
    read_model,
    sibling,
    skeleton,
    unit_axis_of,
    write_model,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.errors import CheckpointError, OutputError, ScoresError
from maet_core.importance import (
    LOCATORS,
    SavedScores,
    cell_table,
    importance_sums,
    locate,
    save_scores,
    select_for_each,
    select_key_neurons,
    unit_table,
)


def opened(family, member="ability"):
    base = Checkpoint.open(family.path("base"))
    return base, Models(base, family.folder).open(member)


def expected_scores(family, granularity, member="ability", names=None):
    values = {key: oracle.to_float64(tensors) for key, tensors in family.tensors.items()}
    names = names or located(family.tensors["base"])
    axes = {name: unit_axis_of(name) for name in names}
    return oracle.importance(values[member], values["base"], names, granularity, axes)


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2_moe"])
def family(request, tmp_path_factory):
    return make_family(tmp_path_factory.mktemp("importance"), request.param, ("ability", "source"), "bfloat16", seed=3)


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_value_change_is_the_equation(family, granularity):
    scores = locate("value-change", *opened(family), granularity)
    expected = expected_scores(family, granularity)
    assert (scores.method, scores.granularity) == ("value-change", granularity)
    assert list(scores.shapes) == sorted(expected)
    for name, values in expected.items():
        found = scores.read(name)
        assert found.dtype == torch.float32
        assert tuple(found.shape) == values.shape == scores.shapes[name]
        np.testing.assert_allclose(found.numpy(), values, rtol=1e-6 if granularity == "unit" else 0)


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_what_is_saved_is_what_was_computed(family, granularity, tmp_path):
    base, trained = opened(family)
    computed = locate("value-change", base, trained, granularity)
    save_scores(computed, tmp_path / "scores.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.safetensors"]
    saved = SavedScores(tmp_path / "scores.safetensors", base)
    assert (saved.method, saved.granularity, dict(saved.shapes)) == ("value-change", granularity, dict(computed.shapes))
    for name in computed.shapes:
        assert torch.equal(saved.read(name), computed.read(name))
    # the safetensors library itself opens it: one float32 tensor per tensor of the model
    assert set(load_file(tmp_path / "scores.safetensors")) == set(computed.shapes)
    with safe_open(tmp_path / "scores.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["maet"])
    assert metadata["base"] == base.identity
    assert metadata["method"] == "value-change"


@pytest.mark.parametrize("scope", ["global", "per-tensor"])
@pytest.mark.parametrize("granularity", ["parameter", "unit"])
@pytest.mark.parametrize("k1", [0.0, 0.01, 0.3, 5.0, 33.33, 99.99, 100.0])
def test_the_top_k1_percent_are_key(family, granularity, scope, k1):
    keys = select_key_neurons(locate("value-change", *opened(family), granularity), k1, scope)
    expected_values = expected_scores(family, granularity)
    expected = oracle.key_neurons(expected_values, k1, scope)
    sizes = [values.size for values in expected_values.values()]
    total = oracle.count_of(k1, sum(sizes)) if scope == "global" else sum(oracle.count_of(k1, size) for size in sizes)
    assert keys.count == total
    assert keys.total == sum(sizes)
    for name, mask in expected.items():
        assert keys.counts[name] == mask.sum(), name
        assert np.array_equal(keys.neurons(name).numpy(), mask), name
        shape = tuple(family.tensors["base"][name].shape)
        full = mask if granularity == "parameter" else oracle.unit_mask(mask, shape, unit_axis_of(name))
        found = keys.mask(name)
        if found is None:
            assert not full.any(), name
            continue
        assert np.array_equal(found.numpy(), full.ravel()), name
        for start, stop in ((0, 1), (3, full.size // 2), (full.size - 5, full.size)):  # ranges that cut rows in two
            assert np.array_equal(keys.mask(name, start, stop).numpy(), full.ravel()[start:stop]), name


def tied_model(tmp_path, values):
    """A Llama whose only changes are `values`, by tensor name."""
    frame = skeleton("llama")
    base = {name: torch.zeros(shape) for name, shape in frame.shapes.items()}
    trained = {name: tensor.clone() for name, tensor in base.items()}
    for name, change in values.items():
        trained[name].view(-1)[: len(change)] = torch.tensor(change)
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "trained", frame.config, trained)
    model = Checkpoint.open(tmp_path / "base")
    return locate("value-change", model, Models(model, tmp_path).open("trained"))


def test_ties_go_by_name_and_then_by_position(tmp_path):
    first, second = "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.up_proj.weight"
    scores = tied_model(tmp_path, {second: [1.0, 3.0, 1.0], first: [-1.0, 1.0, 0.0, 1.0]})
    total = sum(int(np.prod(shape)) for shape in scores.shapes.values())
    for wanted, where in ((1, {second: [1]}), (2, {second: [1], first: [0]}), (4, {second: [1], first: [0, 1, 3]}), (5, {second: [0, 1], first: [0, 1, 3]})):  # fmt: skip
        keys = select_key_neurons(scores, round(100 * wanted / total, 6))
        assert keys.count == wanted
        for name in scores.shapes:
            assert keys.neurons(name).reshape(-1).nonzero().reshape(-1).tolist() == where.get(name, []), (wanted, name)


def test_zeros_fill_up_to_100_percent_and_also_count_as_ties(tmp_path):
    """Most importances are zero after sparse training, yet k1 says how many are key, exactly."""
    scores = tied_model(tmp_path, {"model.layers.1.mlp.up_proj.weight": [1.0, 2.0]})
    total = sum(int(np.prod(shape)) for shape in scores.shapes.values())
    for k1 in (0, 10, 50, 100):
        keys = select_key_neurons(scores, k1)
        assert keys.count == oracle.count_of(k1, total)
        assert sum(int(keys.neurons(name).sum()) for name in scores.shapes) == keys.count


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_more_key_neurons_never_drop_one(family, granularity):
    scores = locate("value-change", *opened(family), granularity)
    before = None
    for k1 in (1, 2, 10, 40, 90):
        keys = select_key_neurons(scores, k1)
        masks = {name: keys.neurons(name) for name in scores.shapes}
        if before is not None:
            assert all((masks[name] | before[name]).equal(masks[name]) for name in masks)
        before = masks


def test_moving_k1_does_not_look_at_the_models_again(family, tmp_path):
    base, trained = opened(family)
    save_scores(locate("value-change", base, trained), tmp_path / "scores.safetensors")
    assert base.identity
    reads = []
    base.read = lambda *arguments: reads.append(arguments)
    saved = SavedScores(tmp_path / "scores.safetensors", base)
    for k1 in (1, 50):
        keys = select_key_neurons(saved, k1)
        cell_table(keys)
    assert reads == []


def test_other_tensors_take_part_when_asked(family):
    base, trained = opened(family)
    embeddings = [name for name in base.tensors if "embed_tokens" in name or "wte" in name]
    scores = locate("value-change", base, trained, include=embeddings)
    assert set(scores.shapes) == {*located(family.tensors["base"]), *embeddings}
    everything = locate("value-change", base, trained, "unit", include=["*"])
    assert set(everything.shapes) == set(base.tensors)
    for name, values in expected_scores(family, "unit", names=sorted(base.tensors)).items():
        np.testing.assert_allclose(everything.read(name).numpy(), values, rtol=1e-6)
    with pytest.raises(ScoresError, match="nothing"):
        locate("value-change", base, trained, include=["*.nothing.*"])


# --- the control ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_the_random_control_has_the_same_size_and_depends_on_the_seed_only(family, granularity, tmp_path):
    base, trained = opened(family)
    one = locate("random", base, None, granularity, seed=1)
    again = locate("random", base, None, granularity, seed=1)
    other = locate("random", base, None, granularity, seed=2)
    located_scores = locate("value-change", base, trained, granularity)
    assert dict(one.shapes) == dict(located_scores.shapes)
    name = next(iter(one.shapes))
    assert torch.equal(one.read(name), again.read(name))
    assert not torch.equal(one.read(name), other.read(name))
    keys, real = select_key_neurons(one, 10), select_key_neurons(located_scores, 10)
    assert keys.count == real.count
    assert any(not torch.equal(keys.neurons(n), real.neurons(n)) for n in one.shapes)
    values = torch.cat([one.read(name).reshape(-1) for name in one.shapes])
    assert float(values.min()) >= 0
    assert float(values.max()) < 1
    assert abs(float(values.mean()) - 0.5) < 5 * 0.29 / len(values) ** 0.5


def test_the_registry_says_what_each_locator_needs(family):
    base, _ = opened(family)
    assert {"value-change", "random"} <= set(LOCATORS)
    for name, locator in LOCATORS.items():
        assert locator.name == name
        assert locator.source
        if locator.needs == "trained":
            with pytest.raises(ScoresError, match=name):
                locate(name, base, None)
    with pytest.raises(ScoresError, match=r"magic.*value-change"):
        locate("magic", base, None)


# --- the file ------------------------------------------------------------------------------------------------------


def saved_file(family, tmp_path):
    base, trained = opened(family)
    path = tmp_path / "scores.safetensors"
    save_scores(locate("value-change", base, trained), path)
    return base, path


def rewrite(path, change):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_scores_of_another_base_are_refused(family, tmp_path):
    _, path = saved_file(family, tmp_path)
    with pytest.raises(ScoresError, match="identity"):
        SavedScores(path, Checkpoint.open(family.path("source")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_scores_that_are_no_scores_are_refused(family, tmp_path, value):
    base, path = saved_file(family, tmp_path)
    name = located(family.tensors["base"])[3]
    rewrite(path, lambda tensors, metadata: tensors[name].view(-1).__setitem__(1, value))
    with pytest.raises(ScoresError, match=name):
        select_key_neurons(SavedScores(path, base), 5)


def test_other_files_are_no_scores(family, tmp_path):
    base, path = saved_file(family, tmp_path)
    with pytest.raises(ScoresError, match="maet locate"):
        SavedScores(family.path("base") / "model.safetensors", base)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ScoresError, match="cut short"):
        SavedScores(path, base)
    with pytest.raises(ScoresError, match=r"absent\.safetensors"):
        SavedScores(tmp_path / "absent.safetensors", base)


def test_scores_with_another_shape_or_tensor_are_refused(family, tmp_path):
    base, path = saved_file(family, tmp_path)
    name = next(name for name in located(family.tensors["base"]) if name.endswith("weight"))

    def reshape(tensors, metadata):
        tensors[name] = tensors[name].reshape(-1).clone()

    rewrite(path, reshape)
    with pytest.raises(ScoresError, match=name):
        SavedScores(path, base)
    rewrite(path, lambda tensors, metadata: tensors.update({name: torch.zeros(1), "stranger": torch.zeros(1)}))
    with pytest.raises(ScoresError):
        SavedScores(path, base)


def test_a_folder_that_is_not_there_is_an_error_and_leaves_nothing(family, tmp_path):
    base, trained = opened(family)
    with pytest.raises(OutputError, match="nowhere"):
        save_scores(locate("value-change", base, trained), tmp_path / "nowhere" / "scores.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_leaves_no_file(tmp_path):
    family = make_family(tmp_path / "models", "llama", ("ability",), seed=3)
    tensors = read_model(family.path("ability"))
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] = float("nan")
    write_model(family.path("ability"), family.config, tensors)
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        save_scores(locate("value-change", *opened(family)), tmp_path / "out" / "scores.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


# --- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_cells_add_up_to_the_model(family, granularity):
    keys = select_key_neurons(locate("value-change", *opened(family), granularity), 12.5)
    table = cell_table(keys)
    assert int(table["neurons"].sum()) == keys.total
    assert int(table["key_neurons"].sum()) == keys.count
    np.testing.assert_allclose(table["density"], table["key_neurons"] / table["neurons"])
    expected = expected_scores(family, granularity)
    masks = oracle.key_neurons(expected, 12.5, "global")
    for row in table.itertuples():
        module = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}.get(row.module, row.module)
        names = [n for n in expected if layer_of(n) == row.layer and {module, row.module} & modules_of(n) and "shared_expert_gate" not in n]  # fmt: skip
        if row.module == "router":
            names = [n for n in expected if layer_of(n) == row.layer and n.endswith(("mlp.gate.weight", "shared_expert_gate.weight"))]  # fmt: skip
        if "qkv_proj" in modules_of(names[0]):
            continue  # a part of a fused tensor: the next test
        assert sorted(row.tensors) == sorted(names)
        assert row.neurons == sum(expected[name].size for name in names)
        assert row.key_neurons == sum(int(masks[name].sum()) for name in names)
        mean = sum(expected[name].sum() for name in names) / row.neurons
        assert row.mean_importance == pytest.approx(mean, rel=1e-5)


def test_fused_tensors_are_counted_by_their_parts(tmp_path):
    """Only the value rows of every head of GPT-NeoX change, so all key neurons are in v_proj."""
    frame = skeleton("gpt_neox")
    base = random_tensors(frame.shapes, "float32", 1)
    trained = {name: tensor.clone() for name, tensor in base.items()}
    fused = "gpt_neox.layers.1.attention.query_key_value.weight"
    for head in range(4):
        trained[fused][head * 12 + 8 : head * 12 + 12] += 1
    write_model(tmp_path / "base", frame.config, base)
    write_model(tmp_path / "trained", frame.config, trained)
    model = Checkpoint.open(tmp_path / "base")
    scores = locate("value-change", model, Models(model, tmp_path).open("trained"), "unit")
    total = sum(int(np.prod(shape)) for shape in scores.shapes.values())
    keys = select_key_neurons(scores, round(100 * 16 / total, 6))
    assert keys.count == 16
    cells = cell_table(keys).set_index(["layer", "module"])["key_neurons"]
    assert cells[1, "v_proj"] == 16
    assert cells.sum() == 16
    units = unit_table(keys, 1, "v_proj")
    weights = units[units["tensor"] == fused]
    assert len(weights) == 16
    assert (weights["key_neurons"] == 1).all()
    np.testing.assert_allclose(weights["importance"], 4.0, rtol=1e-6)


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
@pytest.mark.parametrize("scope", ["global", "per-tensor"])
def test_several_k1_at_once_are_each_as_it_is_alone(family, granularity, scope):
    scores = locate("value-change", *opened(family), granularity)
    sums = importance_sums(scores)
    for k1, keys in zip((0, 2.5, 40, 100), select_for_each(scores, (0, 2.5, 40, 100), scope), strict=True):
        alone = select_key_neurons(scores, k1, scope)
        assert (keys.k1, keys.counts) == (k1, alone.counts)
        assert all(torch.equal(keys.neurons(name), alone.neurons(name)) for name in scores.shapes)
        assert cell_table(keys, sums).equals(cell_table(alone))


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_units_inside_a_cell(family, granularity):
    keys = select_key_neurons(locate("value-change", *opened(family), granularity), 10)
    table = unit_table(keys, 1, "down_proj")
    cell = cell_table(keys).set_index(["layer", "module"]).loc[(1, "down_proj")]
    assert int(table["key_neurons"].sum()) == cell["key_neurons"]
    assert set(table["tensor"]) == set(cell["tensors"])
    units = expected_scores(family, "unit")
    for name, rows in table.groupby("tensor"):
        assert rows["unit"].tolist() == list(range(units[name].size))
        np.testing.assert_allclose(rows["importance"], units[name], rtol=1e-5)
    assert unit_table(keys, 7, "down_proj").empty


def test_stacked_experts_are_single_units(tmp_path):
    """Experts in one three-dimensional tensor: a unit is one expert's, and its mask stays inside that expert."""
    build("mixtral").save_pretrained(tmp_path / "base", save_original_format=False)
    base = read_model(tmp_path / "base")
    trained = {name: tensor.clone() for name, tensor in base.items()}
    fused, down = (f"model.layers.0.mlp.experts.{module}" for module in ("gate_up_proj", "down_proj"))
    trained[fused][2, 5] += 1  # unit 5 of gate_proj of expert 2
    trained[down][1, :, 7] += 1  # unit 7 of down_proj of expert 1
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    write_model(tmp_path / "trained", config, trained)
    model = Checkpoint.open(tmp_path / "base")
    scores = locate("value-change", model, Models(model, tmp_path).open("trained"), "unit")
    assert scores.shapes[fused] == (3, 48)
    assert scores.shapes[down] == (3, 24)
    total = sum(int(np.prod(shape)) for shape in scores.shapes.values())
    keys = select_key_neurons(scores, round(100 * 2 / total, 6))
    assert keys.neurons(fused).nonzero().tolist() == [[2, 5]]
    assert keys.neurons(down).nonzero().tolist() == [[1, 7]]
    for name in (fused, down):
        assert torch.equal(keys.mask(name), (trained[name] != base[name]).reshape(-1))
        assert torch.equal(keys.mask(name, 301, 555), (trained[name] != base[name]).reshape(-1)[301:555])
    table = unit_table(keys, 0, "gate_proj")
    assert table[table["key_neurons"] > 0][["expert", "unit"]].values.tolist() == [[2, 5]]


def test_without_key_neurons_a_density_is_zero_everywhere(family):
    table = cell_table(select_key_neurons(locate("value-change", *opened(family)), 0))
    assert (table["key_neurons"] == 0).all()
    assert (table["density"] == 0).all()


def test_an_adapter_can_be_located_too(tmp_path):
    from models import save_adapter

    family = make_family(tmp_path, "llama", (), seed=3)
    save_adapter(tmp_path / "adapter", family.path("base"), r=2, target_modules=["up_proj"])
    keys = select_key_neurons(locate("value-change", *opened(family, "adapter")), 1)
    assert keys.count
    assert all(("up_proj" in name) or count == 0 for name, count in keys.counts.items())


def test_float32_differences_keep_their_ranking(tmp_path):
    """Changes far below the weights' own size still rank by size."""
    family = make_family(tmp_path, "llama", (), seed=3)
    base = family.tensors["base"]
    write_model(tmp_path / "ability", family.config, sibling(base, 4, scale=1e-6))
    scores = locate("value-change", *opened(family))
    keys = select_key_neurons(scores, 10)
    expected = oracle.importance(
        oracle.to_float64(read_model(tmp_path / "ability")), oracle.to_float64(base), located(base), "parameter", {}
    )
    masks = oracle.key_neurons(expected, 10, "global")
    assert all(np.array_equal(keys.neurons(name).numpy(), mask) for name, mask in masks.items())
