"""The commands as a program would use them: help with examples, JSON whose figures are counted again here, exit status."""

import json
import shlex
import subprocess
import sys

import numpy as np
import oracle
import pytest
import torch
from models import (
    add_tokenizer,
    child_environment,
    layer_of,
    located,
    make_family,
    modules_of,
    read_model,
    save_adapter,
    unit_axis_of,
)
from safetensors import safe_open
from safetensors.torch import load_file

import maet_core
from maet_core.cli import maet as group
from maet_core.recipe import Recipe

COMMANDS = [
    ("inspect",),
    ("select",),
    ("locate",),
    ("pack", "ability"),
    ("pack", "language"),
    ("pack", "recipe"),
    ("merge",),
    ("generate",),
    ("demo", "build"),
    ("app",),
]
RECIPE = {
    "base": "base",
    "abilities": {
        "math": {
            "ability": "ability",
            "source_language": "source",
            "beta": 0.5,
            "tensors": {"k2": 60.0, "include": ["layer:0"], "exclude": ["module:down_proj"]},
        },
        "style": {"ability": "adapter", "gamma": 0.5},
    },
    "languages": {"sw": {"checkpoint": "sw"}, "te": {"checkpoint": "te", "mu": 0.5}},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    family = make_family(folder, "llama", dtype="bfloat16", seed=6, shards=2)
    add_tokenizer(folder / "base")
    save_adapter(folder / "adapter", folder / "base", r=2, lora_alpha=2, target_modules=["q_proj"])
    Recipe.from_dict(RECIPE).save(folder / "recipe.yaml")
    return family


@pytest.fixture(autouse=True)
def _inside(world, monkeypatch):
    monkeypatch.chdir(world.folder)


def result(outcome):
    """The one JSON object on stdout; NaN and Infinity are no JSON."""
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr == ""
    assert outcome.stdout.count("\n") == 1
    return json.loads(outcome.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


# --- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_parses(maet, command):
    outcome = maet(*command, "--help")
    assert outcome.status == 0
    assert f"Usage: maet {' '.join(command)}" in outcome.stdout
    example = " ".join(outcome.stdout.partition("Example:")[2].split())
    assert example.startswith(f"maet {' '.join(command)}"), outcome.stdout
    words = shlex.split(example)[1:]
    current = group
    for word in command:
        current = current.commands[word]
    # every option of the example exists: click itself reads the line, and runs nothing
    current.make_context("maet", words[len(command) :])


def test_all_commands_are_known_here(maet):
    listed = {(name,) for name, command in group.commands.items() if not hasattr(command, "commands")}
    listed |= {(name, sub) for name, command in group.commands.items() for sub in getattr(command, "commands", {})}
    assert listed >= set(COMMANDS)
    for command in listed:
        assert "Example:" in maet(*command, "--help").stdout, command
    assert maet("--help").status == 0


def test_the_version(maet):
    outcome = maet("--version")
    assert (outcome.status, maet_core.__version__ in outcome.stdout) == (0, True)


@pytest.mark.parametrize(
    "start", [["-m", "maet_core"], ["-c", "import sys; from maet_core.cli import main; main(sys.argv[1:])"]]
)
def test_it_starts_as_a_process(world, start):
    ended = subprocess.run(
        [sys.executable, *start, "inspect", "base", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(),
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["parameters"] == sum(t.numel() for t in world.tensors["base"].values())


@pytest.mark.parametrize("given", [None, "2"])
def test_quick_loading_leaves_nothing_behind(given):
    """The BLAS has started no thread of its own, unless that was asked for; what comes later finds everything as it was."""
    program = """
import gc, json, os, pathlib
from maet_core.cli.loading import quickly
with quickly():
    import numpy
    assert not gc.isenabled()
with quickly():  # once is enough
    assert gc.isenabled()
print(json.dumps([os.environ.get("OPENBLAS_NUM_THREADS"), gc.isenabled(), len(list(pathlib.Path("/proc/self/task").glob("*")))]))
"""
    environment = {name: value for name, value in child_environment().items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {"OPENBLAS_NUM_THREADS": given} if given else {}
    del environment["OMP_NUM_THREADS"]
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    found, enabled, threads = json.loads(ended.stdout)
    assert (found, enabled) == (given, True)
    assert given or threads <= 1


# --- inspect -------------------------------------------------------------------------------------------------------


def test_inspect(maet, world):
    found = result(maet("inspect", "base", "--json"))
    base = world.tensors["base"]
    assert found["model"] == "base"
    assert found["architecture"] == "LlamaForCausalLM"
    assert found["known_architecture"] is True
    assert found["layers"] == 2
    assert found["parameters"] == sum(tensor.numel() for tensor in base.values())
    assert found["bytes"] == sum(tensor.nbytes for tensor in base.values())
    assert found["dtypes"] == {"bfloat16": found["parameters"]}
    assert found["identity"].startswith("xxh3-")
    assert found["modules"][0] == "embed_tokens"
    assert [tensor["name"] for tensor in found["tensors"]] == sorted(base)
    for tensor in found["tensors"]:
        name = tensor["name"]
        assert tensor["shape"] == list(base[name].shape)
        assert tensor["dtype"] == "bfloat16"
        assert tensor["layer"] == layer_of(name)
        assert {tensor["module"]} <= modules_of(name)
        assert tensor["neuron_axis"] == unit_axis_of(name)


def test_inspect_tells_models_apart_and_copies_not(maet):
    identities = {model: result(maet("inspect", model, "--json"))["identity"] for model in ("base", "sw", "te")}
    assert len(set(identities.values())) == 3
    file = "base/model-00001-of-00002.safetensors"
    assert result(maet("inspect", file, "--json"))["known_architecture"] is False  # no config beside a single file


def test_inspect_for_people(maet):
    outcome = maet("inspect", "base")
    assert outcome.status == 0
    for word in ("LlamaForCausalLM", "bfloat16", "xxh3-", "gate_proj", "24×16"):
        assert word in outcome.stdout


# --- select --------------------------------------------------------------------------------------------------------


def expected_selection(world, ability):
    values = {key: oracle.to_float64(tensors) for key, tensors in world.tensors.items()}
    base = values["base"]
    weights = oracle.ability_weights(base, values["ability"], values["source"], 1.0, 0.5)
    parts = [
        (mu, {name: values[member][name] - base[name] for name in base}) for member, mu in (("sw", 1.0), ("te", 0.5))
    ]
    places = {name: (layer_of(name), modules_of(name)) for name in base}
    rule = RECIPE["abilities"][ability]["tensors"]
    return oracle.select(
        weights, oracle.language_sum(parts, base), rule["k2"], rule["include"], rule["exclude"], places
    )


def test_select(maet, world):
    found = result(maet("select", "recipe.yaml", "--json"))
    assert found["recipe"] == "recipe.yaml"
    assert list(found["abilities"]) == ["math", "style"]
    table = found["abilities"]["math"]
    expected = expected_selection(world, "math")
    assert table["k2"] == 60.0
    assert table["candidates"] == len(expected.cosines) == len(table["tensors"])
    assert table["selected"] == len(expected.tensors)
    hands = 0
    for row in table["tensors"]:
        name = row["name"]
        assert set(row) >= {"name", "layer", "module", "parameters", "cosine", "selected", "by"}
        assert row["layer"] == layer_of(name)
        assert {row["module"]} <= modules_of(name)
        assert row["parameters"] == world.tensors["base"][name].numel()
        assert row["cosine"] == pytest.approx(expected.cosines[name], abs=1e-9)
        assert row["selected"] == (name in expected.tensors)
        assert row["by"] == ("hand" if name in expected.by_hand else "rule")
        hands += row["by"] == "hand"
    assert hands > 0
    style = found["abilities"]["style"]
    assert [row["name"] for row in style["tensors"]] == [
        f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)
    ]


def test_select_for_people(maet):
    outcome = maet("select", "recipe.yaml")
    assert outcome.status == 0
    assert "math:" in outcome.stdout
    assert "k2 = 60 %" in outcome.stdout
    assert "model.layers.1.mlp.up_proj.weight" in outcome.stdout


# --- locate and pack -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
def test_locate(maet, world, tmp_path, granularity):
    output = tmp_path / "scores.safetensors"
    found = result(
        maet(
            "locate",
            "--base",
            "base",
            "--trained",
            "ability",
            "--granularity",
            granularity,
            "--k1",
            "12.5",
            "-o",
            output,
            "--json",
        )
    )
    values = {key: oracle.to_float64(world.tensors[key]) for key in ("base", "ability")}
    axes = {name: unit_axis_of(name) for name in values["base"]}
    scores = oracle.importance(values["ability"], values["base"], located(world.tensors["base"]), granularity, axes)
    total = sum(score.size for score in scores.values())
    assert found["output"] == str(output)
    assert (found["method"], found["granularity"], found["k1"]) == ("value-change", granularity, 12.5)
    assert found["tensors"] == len(scores)
    assert found["neurons"] == total
    assert found["key_neurons"] == oracle.count_of(12.5, total)
    assert found["bytes_written"] == output.stat().st_size
    assert found["base_identity"] == result(maet("inspect", "base", "--json"))["identity"]
    masks = oracle.key_neurons(scores, 12.5, "global")
    assert len(found["cells"]) == 14  # 2 layers of 7 modules
    for cell in found["cells"]:
        names = [n for n in scores if layer_of(n) == cell["layer"] and cell["module"] in modules_of(n)]
        assert isinstance(cell["neurons"], int)
        assert cell["neurons"] == sum(scores[name].size for name in names)
        assert cell["key_neurons"] == sum(int(masks[name].sum()) for name in names)
    with safe_open(output, "pt") as file:
        for name in scores:
            np.testing.assert_allclose(file.get_tensor(name).numpy(), scores[name], rtol=1e-6)


def test_locate_at_random(maet, tmp_path):
    for seed in (1, 2):
        found = result(
            maet(
                "locate",
                "--base",
                "base",
                "--method",
                "random",
                "--seed",
                seed,
                "-o",
                tmp_path / f"{seed}.safetensors",
                "--json",
            )
        )
        assert found["method"] == "random"
    assert (tmp_path / "1.safetensors").read_bytes() != (tmp_path / "2.safetensors").read_bytes()


def test_embeddings_are_included_when_asked_and_have_no_layer(maet, tmp_path):
    found = result(
        maet(
            "locate",
            "--base",
            "base",
            "--trained",
            "ability",
            "--include",
            "*embed_tokens*",
            "-o",
            tmp_path / "s.safetensors",
            "--json",
        )
    )
    assert found["tensors"] == 15
    assert [cell["layer"] for cell in found["cells"] if cell["module"] == "embed_tokens"] == [None]


def test_pack_and_merge_from_packs(maet, world, tmp_path):
    scores, math, sw = (tmp_path / f"{name}.safetensors" for name in ("scores", "math", "sw"))
    result(maet("locate", "--base", "base", "--trained", "ability", "--granularity", "unit", "-o", scores, "--json"))
    ability = result(
        maet(
            *(
                "pack",
                "ability",
                "--base",
                "base",
                "--ability",
                "ability",
                "--source-language",
                "source",
                "--beta",
                "0.5",
            ),
            *("--key-neurons", scores, "--k1", "10", "-o", math, "--json"),
        )
    )
    language = result(maet("pack", "language", "--base", "base", "--checkpoint", "sw", "-o", sw, "--json"))
    for found, path, kind in ((ability, math, "ability"), (language, sw, "language")):
        assert (found["output"], found["kind"]) == (str(path), kind)
        assert found["bytes_written"] == path.stat().st_size
        assert found["inputs"]["base"] == result(maet("inspect", "base", "--json"))["identity"]
    moved = sum(int((world.tensors["sw"][n] != tensor).sum()) for n, tensor in world.tensors["base"].items())
    assert language["values"] == moved
    recipe = {
        "base": str(world.path("base")),
        "abilities": {"math": {"pack": str(math)}},
        "languages": {"sw": {"pack": str(sw)}},
    }
    Recipe.from_dict(recipe).save(tmp_path / "packs.yaml")
    keys = {"k1": 10.0, "granularity": "unit", "scores": str(scores)}
    direct = {
        "base": "base",
        "abilities": {"math": {"ability": "ability", "source_language": "source", "beta": 0.5, "key_neurons": keys}},
        "languages": {"sw": {"checkpoint": "sw"}},
    }
    Recipe.from_dict(direct).save(world.folder / "direct.yaml")
    packed = result(maet("merge", tmp_path / "packs.yaml", "-o", tmp_path / "one", "--json"))
    result(maet("merge", "direct.yaml", "-o", tmp_path / "two", "--json"))
    one, two = read_model(tmp_path / "one"), read_model(tmp_path / "two")
    for name, tensor in two.items():
        error = (one[name].double() - tensor.double()).abs().numpy()
        assert (error <= oracle.ulp(tensor.double().numpy(), torch.bfloat16)).all(), name
    assert packed["parameters_changed"] > 0

    again = tmp_path / "again.safetensors"
    result(maet("pack", "recipe", "direct.yaml", "-o", again, "--json"))
    first, second = load_file(math), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    wrong = maet("pack", "recipe", "direct.yaml", "--name", "reading", "-o", tmp_path / "x.safetensors")
    assert (wrong.status, wrong.stderr.strip().splitlines()[-1]) == (
        2,
        "maet: --name: found reading, expected one of direct.yaml's abilities: math",
    )
    assert maet("pack", "recipe", tmp_path / "packs.yaml", "-o", tmp_path / "x.safetensors").status == 2
    assert not (tmp_path / "x.safetensors").exists()


# --- merge ---------------------------------------------------------------------------------------------------------


def test_merge(maet, world, tmp_path):
    found = result(maet("merge", "recipe.yaml", "-o", tmp_path / "out", "--json"))
    assert set(found) >= {
        "output",
        "tensors_changed",
        "parameters_changed",
        "seconds",
        "bytes_read",
        "bytes_written",
        "peak_bytes",
    }
    base, merged = world.tensors["base"], read_model(tmp_path / "out")
    counts = {name: int((merged[name] != tensor).sum()) for name, tensor in base.items()}
    assert found["output"] == str(tmp_path / "out")
    assert found["tensors_changed"] == sum(count > 0 for count in counts.values())
    assert found["parameters_changed"] == sum(counts.values())
    assert found["bytes_written"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert found["bytes_read"] > 5 * sum(tensor.nbytes for tensor in base.values())
    assert found["peak_bytes"] > 0
    assert found["seconds"] > 0


def test_paths_are_relative_to_the_recipe(maet, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = result(maet("merge", world.folder / "recipe.yaml", "-o", "here", "--json"))
    assert found["output"] == "here"
    assert (tmp_path / "here" / "config.json").exists()


def test_merge_for_people(maet, tmp_path):
    outcome = maet("merge", "recipe.yaml", "-o", tmp_path / "out", "--device", "cpu")
    assert outcome.status == 0
    assert outcome.stderr == ""
    assert str(tmp_path / "out") in outcome.stdout
    assert "tensors" in outcome.stdout


def test_progress_as_lines_for_programs(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "maet_core", "merge", "recipe.yaml", "-o", str(tmp_path / "out"), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(MAET_PROGRESS="lines"),
    )
    assert json.loads(ended.stdout)["output"] == str(tmp_path / "out")
    lines = [line.split(maxsplit=3) for line in ended.stderr.splitlines()]
    assert lines
    for word, done, total, phase in lines:
        assert word == "progress"
        assert 0 <= int(done) <= int(total)
        assert phase
    assert lines[-1][1] == lines[-1][2]


# --- generate ------------------------------------------------------------------------------------------------------


def test_generate_from_a_model_and_from_a_recipe(maet, world, tmp_path):
    """A recipe answers exactly as the checkpoint that `merge` writes from it."""
    result(maet("merge", "recipe.yaml", "-o", tmp_path / "out", "--json"))
    answers = {}
    for model in ("base", "recipe.yaml", tmp_path / "out"):
        answers[str(model)] = result(
            maet("generate", model, "--prompt", "t5 t9 t12", "--max-new-tokens", "12", "--json")
        )
    assert answers["recipe.yaml"]["text"] == answers[str(tmp_path / "out")]["text"] != answers["base"]["text"]
    for model, answer in answers.items():
        assert answer["model"] == model
        assert answer["prompt"] == "t5 t9 t12"
        assert 0 < answer["tokens"] <= 12
        assert answer["finished"] in ("length", "stop", "end")
    text = maet("generate", "base", "--prompt", "t5 t9 t12", "--max-new-tokens", "12")
    assert text.stdout.rstrip("\n") == answers["base"]["text"].rstrip("\n")


def test_generate_is_what_transformers_generates(maet, world):
    import transformers

    answer = result(maet("generate", "base", "--prompt", "t5 t9 t12", "--max-new-tokens", "10", "--json"))
    model = transformers.AutoModelForCausalLM.from_pretrained("base", dtype="auto").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("base")
    inputs = tokenizer("t5 t9 t12", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert answer["text"].split() == tokenizer.decode(ids, skip_special_tokens=True).split()


def test_sampling_follows_the_seed(maet):
    def text(seed):
        sampling = ("--temperature", "1.5", "--seed", seed, "--max-new-tokens", "16", "--json")
        return result(maet("generate", "base", "--prompt", "t5", *sampling))["text"]

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(1, 5)}) > 1


def test_a_reader_that_has_had_enough(world):
    """`maet inspect base | head -1` ends without a traceback."""
    environment = child_environment()
    ended = subprocess.run(
        f"{shlex.quote(sys.executable)} -m maet_core select recipe.yaml | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert "math" in ended.stdout
    assert "Traceback" not in ended.stderr
