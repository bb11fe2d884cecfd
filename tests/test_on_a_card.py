"""Training, locating, looking inside and the command line on a CUDA card, against the processor (`pytest -m cuda`).

Every test also runs with the processor in the card's place, so that what it says is tried everywhere. Merging, live weights and
several processes on a card have tests of their own: test_merging_on_device, test_live_on_card, test_distributed_training.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import add_tokenizer, make_family, read_model
from safetensors.torch import load_file, save_file

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.errors import Stopped
from maet_core.importance import locate, select_key_neurons
from maet_core.inspection.excitation import excitations
from maet_core.inspection.losses import answer_losses
from maet_core.knockout import scaled
from maet_core.locating import Sample, locate_in_corpus
from maet_core.resident import free_bytes_on, load_model, load_tokenizer
from maet_core.training import LoraOptions, Processes, TrainingOptions
from maet_core.training.checkpoint import train_checkpoint

DEMO = Path(__file__).parents[1] / "assets" / "demo"
RECIPE = sorted((DEMO / "recipes").glob("*.yaml"))[0]
DOCUMENTS = [(f"t{a} t{b}", f" t{(a + b) % 37 + 3}") for a in range(3, 40) for b in range(3, 9)]
OPTIONS = {"steps": 6, "learning_rate": 1e-2, "batch_rows": 2, "row_tokens": 16, "warmup_steps": 2, "accumulate": 2}
ASKED = ("--task", "demo-math:dev", "--languages", "sw,te", "--dtype", "float32", "--max-new-tokens", 48)

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, needs_card])])
def device(request):
    return request.param


@pytest.fixture(scope="module")
def doubles(tmp_path_factory):
    """GPT-2 in float64 without dropout, which draws other numbers on a card; it computes in float64 throughout."""
    folder = tmp_path_factory.mktemp("doubles")
    make_family(folder, "gpt2", seed=6, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    for member in ("base", "ability"):
        file, config = folder / member / "model.safetensors", folder / member / "config.json"
        save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float64"}))
    add_tokenizer(folder / "base")
    return folder


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow")
    make_family(folder, "llama", dtype="bfloat16", seed=6)
    add_tokenizer(folder / "base")
    return folder


def keys_of(folder, granularity):
    base = Checkpoint.open(folder / "base")
    return select_key_neurons(locate("value-change", base, Models(base, folder).open("ability"), granularity), 20.0)


def what_trains(folder, what):
    return {
        "all": {},
        "some": {"options": {"trainable": ("*mlp*",), "frozen": ("*.0.*",)}},
        "key parameters": {"keys": lambda: keys_of(folder, "parameter")},
        "key units": {"keys": lambda: keys_of(folder, "unit")},
        "revert": {"keys": lambda: keys_of(folder, "parameter"), "revert": True},
        "lora": {"lora": LoraOptions(2, 4.0)},
    }[what]


def train(folder, what, output, device="cpu", options=(), **more):
    told = dict(what_trains(folder, what))
    chosen = TrainingOptions(**{**OPTIONS, **dict(options), **told.pop("options", {})})
    keys = told.pop("keys", lambda: None)()
    processes = Processes(device=device)
    base = Checkpoint.open(folder / "base")
    return train_checkpoint(base, DOCUMENTS, chosen, output, keys, processes=processes, **told, **more), keys


@pytest.mark.parametrize("what", ["all", "some", "key parameters", "key units", "revert", "lora"])
def test_a_training_is_that_of_the_processor(doubles, tmp_path, device, what):
    expected, keys = train(doubles, what, tmp_path / "expected")
    found, _ = train(doubles, what, tmp_path / "found", device)
    assert found["trained_parameters"] == expected["trained_parameters"]
    np.testing.assert_allclose(found["losses"], expected["losses"], atol=2e-5)
    one, other = read_model(tmp_path / "expected"), read_model(tmp_path / "found")
    start = {} if what == "lora" else read_model(doubles / "base")
    assert set(one) == set(other)
    moved = 0
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
        moved += int((tensor != start[name]).sum()) if start else tensor.numel()
        if keys is not None:
            inside = (
                keys.mask(name).reshape(tensor.shape)
                if keys.counts.get(name)
                else torch.zeros_like(tensor, dtype=torch.bool)
            )
            assert torch.equal(other[name][~inside], start[name][~inside]), name
        elif what == "some" and not (".mlp." in name and ".1." in name):
            assert torch.equal(other[name], start[name]), name
    assert moved > 100


@pytest.mark.parametrize("what", ["all", "key parameters", "key units", "lora"])
def test_bf16_with_less_memory_goes_on_where_it_was(narrow, tmp_path, device, what):
    """Rows this short are one block of attention's backward pass, so that a card too adds in one order."""
    options = {"bf16": True, "checkpoint_activations": True}
    whole, keys = train(narrow, what, tmp_path / "whole", device, options)
    steps = []
    with pytest.raises(Stopped):
        train(
            narrow, what, tmp_path / "parts", device, options,
            progress=steps.append, halted=lambda: len(steps) + 1 >= 3,
        )  # fmt: skip
    parts, _ = train(narrow, what, tmp_path / "parts", device, options)
    assert parts["losses"] == whole["losses"]
    one, other = read_model(tmp_path / "whole"), read_model(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)
    if keys is not None:
        for name, tensor in read_model(narrow / "base").items():
            outside = ~keys.mask(name) if keys.counts.get(name) else torch.ones(tensor.numel(), dtype=torch.bool)
            assert torch.equal(one[name].flatten()[outside], tensor.flatten()[outside]), name


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
@pytest.mark.parametrize("method", ["gradient", "taylor"])
def test_attribution_is_that_of_the_processor(doubles, device, method, granularity):
    base, sample = Checkpoint.open(doubles / "base"), Sample(batches=4, rows=2, row_tokens=16)
    expected, found = (
        locate_in_corpus(method, base, DOCUMENTS, sample, granularity, halves=True, device=where)
        for where in ("cpu", device)
    )
    for name in expected.shapes:
        torch.testing.assert_close(found.read(name), expected.read(name), rtol=1e-5, atol=1e-9)
    for share, value in expected.details["split_half"].items():
        assert found.details["split_half"][share] == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_a_probe_finds_the_neurons_that_it_finds_on_the_processor(doubles, device, granularity):
    """It trains in float32, where a gradient near zero may have either sign, and Adam's first steps are signs."""
    base, sample = Checkpoint.open(doubles / "base"), Sample(batches=4, rows=2, row_tokens=16)
    expected, found = (
        locate_in_corpus("probe", base, DOCUMENTS, sample, granularity, learning_rate=1e-3, device=where)
        for where in ("cpu", device)
    )
    keys = [select_key_neurons(scores, 20.0) for scores in (expected, found)]
    common = sum(int((keys[0].neurons(name) & keys[1].neurons(name)).sum()) for name in expected.shapes)
    assert common >= 0.97 * keys[0].count
    apart = torch.cat([(found.read(name) - expected.read(name)).abs().flatten() for name in expected.shapes])
    assert apart.quantile(0.97) < 1e-5


@pytest.mark.cuda
@needs_card
def test_what_torch_keeps_counts_as_free():
    free = free_bytes_on(torch.device("cuda", 0))
    held = torch.empty(free // 2, dtype=torch.uint8, device="cuda")
    assert free_bytes_on(held.device) < 0.6 * free
    del held
    assert torch.cuda.mem_get_info(0)[0] < 0.6 * free  # the driver does not know
    assert free_bytes_on(torch.device("cuda", 0)) > 0.9 * free
    torch.cuda.empty_cache()


def test_what_is_seen_inside_is_what_the_processor_sees(narrow, device):
    base = Checkpoint.open(narrow / "base")
    tokenizer = load_tokenizer(base)
    texts = [[1, 5, 6, 7, 9], [1, 8, 8], [1, 30, 12, 4, 5, 6]]
    plain, model = load_model(base).float(), load_model(base, device).float()
    for module in ("up_proj", "down_proj", "q_proj"):
        expected, found = (excitations(m, base, 1, module, texts, ignored=(1,), rows=2) for m in (plain, model))
        np.testing.assert_allclose(found.highest, expected.highest, atol=1e-4)
        np.testing.assert_allclose(found.lowest, expected.lowest, atol=1e-4)
    keys = keys_of(narrow, "parameter")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = []
    for chosen in (plain, model):
        with scaled(chosen, base, keys, 0.0) as weights:
            assert weights == keys.count
            losses.append(answer_losses(chosen, tokenizer, DOCUMENTS[:20]))
    np.testing.assert_allclose(losses[1].sums, losses[0].sums, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# --- the command line, on the demo models --------------------------------------------------------------------------


def result(outcome):
    assert outcome.status == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_the_demo_merges_to_the_bytes_of_the_processor(maet, tmp_path, device):
    for number, where in enumerate(("cpu", device)):
        result(maet("merge", RECIPE, "-o", tmp_path / str(number), "--device", where, "--json"))
    one, other = (tmp_path / str(number) / "model.safetensors" for number in range(2))
    assert one.read_bytes() == other.read_bytes()


def test_the_demo_answers_as_on_the_processor(maet, tmp_path, device):
    """In float32: the same questions are right, but for one whose choice of a token was close."""
    told = [
        result(
            maet("evaluate", RECIPE, *ASKED, "--limit", 8, "--device", where, "-o", tmp_path / str(number), "--json")
        )
        for number, where in enumerate(("cpu", device))
    ]
    expected, found = (sum(cell["right"] for cell in one["cells"]) for one in told)
    assert abs(found - expected) <= 1
    assert found >= 6


def test_a_sweep_of_the_demo(maet, tmp_path, device):
    told = result(
        maet(
            "sweep", RECIPE, *ASKED, "--limit", 4, "--gamma", "0,1", "--device", device, "-o", tmp_path / "s", "--json"
        )
    )
    gains = {point["settings"].get("gamma", point["role"]): point["gain"] for point in told["points"]}
    assert gains["base"] == 0
    assert gains[1.0] == gains["recipe"] > gains[0.0]


def test_the_demo_is_spoken_to(maet, device):
    said = maet("generate", RECIPE, "--prompt", prompt_in("sw"), "--device", device, "--max-new-tokens", 60)
    assert said.status == 0, said.stderr
    assert "####" in said.stdout


def prompt_in(language):
    rows = map(json.loads, (DEMO / "tasks" / "math.jsonl").read_text("utf-8").splitlines())
    return next(row["prompt"] for row in rows if row["language"] == language)


@pytest.mark.parametrize("method", ["taylor", "probe"])
def test_locating_then_training_by_command(maet, tmp_path, device, method):
    common = ("--base", DEMO / "models" / "base", "--corpus", DEMO / "corpora" / "math-en.txt", "--device", device)
    sample = ("--batches", 4, "--batch-rows", 4, "--row-tokens", 64)
    maet("locate", *common, *sample, "--method", method, "--granularity", "unit", "-o", tmp_path / "scores.safetensors")
    steps = ("--steps", 8, "--batch-rows", 4, "--row-tokens", 64, "--learning-rate", 3e-3, "--warmup-steps", 2)
    keys = ("--key-neurons", tmp_path / "scores.safetensors", "--k1", 20)
    narrow = ("--bf16", "--checkpoint-activations")
    for number, more in enumerate(((), keys, (*keys, *narrow), ("--lora", 4, *narrow))):
        told = result(maet("train", *common, *steps, *more, "-o", tmp_path / str(number), "--json"))
        assert told["losses"][-1] < told["losses"][0] - 0.02, more
