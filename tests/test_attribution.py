"""Locating in a corpus: gradients and Taylor scores against finite differences and plain autograd, the probe against training."""

import json

import numpy as np
import pytest
import torch
import transformers
from models import add_tokenizer, make_family

from maet_core.checkpoints import Checkpoint
from maet_core.cli import main
from maet_core.errors import Cancelled, InputError, ScoresError
from maet_core.importance import LOCATORS, SavedScores, cell_table, locate, save_scores, select_key_neurons
from maet_core.importance.attribution import attribute, split_half
from maet_core.importance.locators import participating
from maet_core.locating import Sample, locate_in_corpus
from maet_core.resident import load_model

TEXTS = [("Q: two and three?", " five"), ("Q: one and one?", " two"), ("", "a plain text of some length")] * 12


def opened(folder, architecture="llama", dtype="float32", **changes):
    make_family(folder, architecture, dtype=dtype, seed=4, **changes)
    add_tokenizer(folder / "base")
    base = Checkpoint.open(folder / "base")
    return base, load_model(base)


def some_batches(count=4, rows=2, tokens=12, vocabulary=40):
    generator = torch.Generator().manual_seed(3)
    batches = []
    for _ in range(count):
        ids = torch.randint(3, vocabulary, (rows, tokens), generator=generator)
        labels = ids.clone()
        labels[:, : tokens // 2] = -100
        batches.append((ids, labels))
    return batches


def loss_of(model, ids, labels):
    """Cross entropy of the next token written out, the mean over the labels that count."""
    logits = model(input_ids=ids).logits[:, :-1].double()
    targets = labels[:, 1:]
    chosen = targets != -100
    picked = torch.log_softmax(logits, -1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(picked * chosen).sum() / chosen.sum()


@pytest.mark.parametrize("method", ["gradient", "taylor"])
def test_scores_agree_with_finite_differences(tmp_path, method):
    base, model = opened(tmp_path, "gpt2")  # it computes in float64 throughout; others normalize in float32
    model = model.double()
    batches = some_batches()
    scores = attribute(method, base, model, batches, participating(base))
    generator = np.random.default_rng(0)
    for name in scores.shapes:
        weights = dict(model.named_parameters())[name].data
        for position in generator.integers(0, weights.numel(), 3):
            value, expected = weights.view(-1)[position].item(), 0.0
            for ids, labels in batches:
                losses = []
                for step in (1e-5, -1e-5):
                    weights.view(-1)[position] = value + step
                    losses.append(loss_of(model, ids, labels).item())
                weights.view(-1)[position] = value
                slope = (losses[0] - losses[1]) / 2e-5
                expected += abs(slope * (value if method == "taylor" else 1))
            found = scores.read(name).view(-1)[position].item()
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), (name, position, found, expected)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi3", "mixtral", "qwen2_moe", "gpt_neox"])
def test_every_tensor_has_its_own_gradient_whatever_transformers_makes_of_it(tmp_path, architecture):
    """The model is saved again with its gradients as weights: transformers' own way from memory to the names on disk."""
    base, model = opened(tmp_path, architecture)
    batches = some_batches()
    scores = attribute("gradient", base, model, batches, participating(base))
    units = attribute("gradient", base, model, batches, participating(base), granularity="unit")
    expected = {name: np.zeros(base.tensors[name].shape) for name in scores.shapes}
    expected_units = {name: 0.0 for name in scores.shapes}
    for number, (ids, labels) in enumerate(batches):
        model.zero_grad()
        loss_of(model, ids, labels).backward()
        twin = type(model)(model.config)
        for target, source in zip(twin.parameters(), model.parameters(), strict=True):
            target.data = source.grad.clone()
        twin.save_pretrained(tmp_path / f"gradients-{number}")
        saved = Checkpoint.open(tmp_path / f"gradients-{number}")
        for name in scores.shapes:
            gradient = np.abs(saved.read(name).double().numpy())
            expected[name] += gradient
            axis = base.anatomy.place(name).neuron_axis or 0
            others = tuple(i for i in range(gradient.ndim) if i != axis % gradient.ndim)
            expected_units[name] = expected_units[name] + np.sqrt((gradient**2).sum(axis=others))
    for name in scores.shapes:
        np.testing.assert_allclose(scores.read(name).numpy(), expected[name], rtol=2e-4, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(units.read(name).numpy(), expected_units[name], rtol=2e-4, atol=1e-7, err_msg=name)


def test_the_model_is_left_as_it_was(tmp_path):
    base, model = opened(tmp_path, dtype="bfloat16")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    attribute("taylor", base, model, some_batches(), participating(base))
    with pytest.raises(Cancelled):
        attribute("taylor", base, model, some_batches(), participating(base), halted=lambda: True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad == wanted[name]
        assert not parameter._post_accumulate_grad_hooks


def test_two_halves_are_told_apart(tmp_path):
    base, model = opened(tmp_path)
    one, other = some_batches(2), some_batches(4)[2:]
    names = participating(base)
    whole = attribute("gradient", base, model, one + other, names, halves=True)
    first, second = (attribute("gradient", base, model, half, names) for half in (one, other))
    for name in names:
        torch.testing.assert_close(whole.read(name), first.read(name) + second.read(name), rtol=1e-4, atol=1e-7)
    shares = whole.details["split_half"]
    keys = [select_key_neurons(half, 10.0) for half in (first, second)]
    common = sum(int((keys[0].neurons(name) & keys[1].neurons(name)).sum()) for name in names)
    assert shares["10"] == pytest.approx(common / keys[0].count, abs=0.01)
    assert split_half(base, "parameter", first.values, first.values) == {"1": 1.0, "5": 1.0, "10": 1.0}
    chance = [locate("random", base, seed=seed) for seed in (1, 2)]
    held = [{name: scores.read(name) for name in names} for scores in chance]
    assert split_half(base, "parameter", *held)["10"] == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_scores_of_a_corpus_can_be_kept_and_cut(tmp_path, granularity):
    base, _ = opened(tmp_path, dtype="bfloat16")
    scores = locate_in_corpus("taylor", base, TEXTS, Sample(3, 2, 16), granularity, halves=True)
    saved = SavedScores(save_scores(scores, tmp_path / "taylor.safetensors"), base)
    assert saved.method == "taylor"
    assert saved.details["batches"] == 3
    assert saved.details["split_half"] == scores.details["split_half"]
    for name in scores.shapes:
        assert torch.equal(saved.read(name), scores.read(name))
    keys = select_key_neurons(saved, 20.0)
    assert int(cell_table(keys)["key_neurons"].sum()) == keys.count


def test_a_probe_is_the_value_change_of_training_on_the_sample(tmp_path):
    """Against AdamW written out in float64 numpy for its first step, where every weight moves by the learning rate."""
    base, model = opened(tmp_path)
    scores = locate_in_corpus("probe", base, TEXTS, Sample(1, 2, 16), learning_rate=1e-3)
    moved = torch.cat([scores.read(name).reshape(-1) for name in scores.shapes])
    touched = moved[moved > 1e-6]
    # one step of AdamW from rest: lr · g / (|g| + eps), the sign of the gradient times the learning rate
    assert len(touched) > 0.5 * len(moved)
    assert float(touched.median()) == pytest.approx(1e-3, rel=0.02)
    again = locate_in_corpus("probe", base, TEXTS, Sample(1, 2, 16), learning_rate=1e-3)
    assert all(torch.equal(scores.read(name), again.read(name)) for name in scores.shapes)
    unit = locate_in_corpus("probe", base, TEXTS, Sample(1, 2, 16), "unit", learning_rate=1e-3)
    name = next(name for name in scores.shapes if "up_proj" in name)
    torch.testing.assert_close(unit.read(name), scores.read(name).norm(dim=1))
    fresh = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto").state_dict()
    assert all(torch.equal(tensor, fresh[key]) for key, tensor in model.state_dict().items())


def test_what_does_not_fit_is_named(tmp_path):
    base, _ = opened(tmp_path)
    with pytest.raises(InputError, match="the corpus fills 0 rows"):
        locate_in_corpus("gradient", base, [("", "short")], Sample(2, 4, 64))
    with pytest.raises(ScoresError, match=r"value-change.*gradient"):
        locate_in_corpus("value-change", base, TEXTS, Sample())
    for name, locator in LOCATORS.items():
        if locator.needs == "corpus":
            with pytest.raises(ScoresError, match=f"{name}.*--corpus"):
                locate(name, base)


def test_the_command_locates_in_a_corpus(tmp_path, capsys):
    base, _ = opened(tmp_path)
    rows = ({"prompt": prompt, "answer": answer} for prompt, answer in TEXTS)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "scores.safetensors"
    arguments = ["locate", "--base", str(tmp_path / "base"), "--corpus", str(tmp_path / "c.jsonl"), "-o", str(output)]
    arguments += ["--method", "gradient", "--batches", "2", "--batch-rows", "2", "--row-tokens", "16", "--answers-only"]
    with pytest.raises(SystemExit) as ending:
        main([*arguments, "--split-half", "--json"])
    assert ending.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["method"] == "gradient"
    assert set(said["split_half"]) == {"1", "5", "10"}
    saved = SavedScores(output, base)
    assert said["neurons"] == sum(saved.read(name).numel() for name in saved.shapes)
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert "exists already" in capsys.readouterr().err
