"""Wrong input, through the library and the command line: one line that names the file or field and the mend, status 2, and
nothing left behind. Every case starts from a merge that works and breaks one thing."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from models import (
    add_tokenizer,
    child_environment,
    make_family,
    random_tensors,
    read_model,
    save_adapter,
    sibling,
    skeleton,
    write_model,
)
from ruamel.yaml import YAML
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from maet_core import importance
from maet_core.checkpoints import Checkpoint
from maet_core.differences import Models
from maet_core.errors import InputError, OutputError
from maet_core.merging import merge
from maet_core.recipe import Recipe
from maet_core.sources import Sources
from maet_core.weights.packs import write_pack

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """base in three shards, four models, two adapters, packs and scores: everything that a recipe can name."""
    folder = tmp_path_factory.mktemp("template")
    family = make_family(folder, "llama", dtype="bfloat16", seed=5, shards=3)
    add_tokenizer(folder / "base")
    write_model(folder / "other-base", family.config, sibling(family.tensors["base"], 99))
    save_adapter(folder / "adapter", folder / "base", r=2, lora_alpha=2, target_modules=["q_proj", "down_proj"])
    sources = Sources.open(Recipe.from_dict({"base": "base", "abilities": {"math": {"ability": "ability"}}}), folder)
    write_pack("ability", sources.abilities["math"], sources.base, folder / "math.safetensors", {})
    difference = Models(sources.base, folder).open("sw")
    write_pack("language", difference, sources.base, folder / "sw.safetensors", {})
    scores = importance.locate("value-change", sources.base, Models(sources.base, folder).open("ability"))
    importance.save_scores(scores, folder / "scores.safetensors")
    return folder


@pytest.fixture
def folder(template, tmp_path):
    shutil.copytree(template, tmp_path / "work")
    return tmp_path / "work"


def good_recipe():
    return {
        "base": "base",
        "abilities": {
            "math": {
                "ability": "ability",
                "source_language": "source",
                "beta": 0.5,
                "key_neurons": {"k1": 20.0, "scores": "scores.safetensors"},
                "tensors": {"k2": 80.0},
            },
            "science": {"pack": "math.safetensors"},
            "style": {"ability": "adapter"},
        },
        "languages": {
            "sw": {"checkpoint": "sw"},
            "te": {"checkpoint": "te", "mu": 0.5},
            "bn": {"pack": "sw.safetensors"},
        },
    }


@dataclass
class Case:
    """What to break in the folder, what to change in the recipe, and what the one line must say."""

    says: str
    breaks: object = None
    recipe: dict = field(default_factory=dict)


# --- ways to break a model -----------------------------------------------------------------------------------------


def only_file(folder, model):
    return folder / model / "model.safetensors"


def shard_of(folder, model, name=NAME):
    index = json.loads((folder / model / "model.safetensors.index.json").read_text())
    return folder / model / index["weight_map"][name]


def single_file(folder, model):
    """The sharded template model as one file."""
    tensors = read_model(folder / model)
    config = json.loads((folder / model / "config.json").read_text())
    for file in (folder / model).glob("model*"):
        file.unlink()
    write_model(folder / model, config, tensors)


def rewrite(model, change):
    def breaks(folder):
        tensors = read_model(folder / model)
        config = json.loads((folder / model / "config.json").read_text())
        change(tensors)
        for file in (folder / model).glob("model*"):
            file.unlink()
        write_model(folder / model, config, tensors)

    return breaks


def spoil(value, model, name=NAME, position=-1):
    return rewrite(model, lambda tensors: tensors[name].view(-1).__setitem__(position, value))


def without(model, name=NAME):
    return rewrite(model, lambda tensors: tensors.pop(name))


def replaced(model, tensor, name=NAME):
    return rewrite(model, lambda tensors: tensors.__setitem__(name, tensor))


def other_vocabulary(model):
    def change(tensors):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = torch.zeros(48, 16, dtype=torch.bfloat16)

    return rewrite(model, change)


def cut(model, count):
    def breaks(folder):
        single_file(folder, model)
        os.truncate(only_file(folder, model), only_file(folder, model).stat().st_size - count)

    return breaks


def overwritten(model, content):
    def breaks(folder):
        single_file(folder, model)
        only_file(folder, model).write_bytes(content)

    return breaks


def header(**changes):
    """A model whose header entry for one tensor is changed."""

    def breaks(folder):
        single_file(folder, "ability")
        file = only_file(folder, "ability")
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        content = json.loads(data[8 : 8 + length])
        content[NAME] |= changes
        text = json.dumps(content).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return breaks


def pickled(model, name):
    def breaks(folder):
        for file in (folder / model).glob("model*"):
            file.unlink()
        torch.save({NAME: torch.zeros(24, 16)}, folder / model / name)

    return breaks


def adapter_config(**changes):
    def breaks(folder):
        path = folder / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return breaks


def adapter_tensor(change):
    def breaks(folder):
        path = folder / "adapter" / "adapter_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return breaks


def adapter_key(tensors, end):
    return next(name for name in sorted(tensors) if name.endswith(end))


def grow_adapter(tensors):
    name = adapter_key(tensors, "down_proj.lora_A.weight")
    tensors[name] = torch.zeros(2, 99)


def orphan_adapter(tensors):
    tensors.pop(adapter_key(tensors, "q_proj.lora_B.weight"))


def stranger_adapter(tensors):
    for side in "AB":
        name = adapter_key(tensors, f"0.self_attn.q_proj.lora_{side}.weight")
        tensors[name.replace("q_proj", "zz_proj")] = tensors.pop(name)


def poison_adapter(tensors):
    tensors[adapter_key(tensors, "lora_B.weight")][0, 0] = float("nan")


def dora_adapter(tensors):
    tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = torch.ones(16)


def text(path, content):
    return lambda folder: (folder / path).write_text(content)


def remove(path):
    return lambda folder: (folder / path).unlink()


def ability(**changes):
    return {"abilities": {"math": {"ability": "ability", **changes}}}


INDEX = "model.safetensors.index.json"
CASES = {
    "a shard of the base is missing": Case(r"base.*model-00002-of-00003\.safetensors.*missing", remove("base/model-00002-of-00003.safetensors")),
    "a shard of a trained model is missing": Case(r"sw.*model-00001-of-00003\.safetensors.*missing", remove("sw/model-00001-of-00003.safetensors")),
    "a shard lacks a tensor of the index": Case(
        rf"ability/model-.*tensor model\..*{INDEX}",
        lambda folder: save_file({"x": torch.zeros(1)}, shard_of(folder, "ability")),
    ),
    "the index is no JSON": Case(rf"ability/{INDEX}.*JSON", text(f"ability/{INDEX}", "{")),
    "the index is a list": Case(rf"ability/{INDEX}", text(f"ability/{INDEX}", "[]")),
    "the index has no map": Case(rf"ability/{INDEX}.*weight_map", text(f"ability/{INDEX}", "{}")),
    "the index points outside": Case(
        rf"ability/{INDEX}.*outside", text(f"ability/{INDEX}", json.dumps({"weight_map": {NAME: "../sw/model-00001-of-00003.safetensors"}}))
    ),
    "the config is no JSON": Case(r"base/config\.json.*JSON", text("base/config.json", "{")),
    "the config is a list": Case(r"base/config\.json", text("base/config.json", "[]")),
    "the base is cut short": Case(r"base/model\.safetensors.*cut short", cut("base", 1)),
    "a trained model is cut short": Case(r"te/model\.safetensors.*cut short", cut("te", 1000)),
    "a file without a header": Case(r"ability/model\.safetensors.*(not a safetensors|damaged)", overwritten("ability", b"")),
    "a file of three bytes": Case(r"ability/model\.safetensors", overwritten("ability", b"abc")),
    "a file of text": Case(r"ability/model\.safetensors.*(not a safetensors|damaged)", overwritten("ability", b"version https://git-lfs.github.com/spec/v1\n")),
    "a header that is too long": Case(r"ability/model\.safetensors", overwritten("ability", b"\xff" * 64)),
    "a header that is a list": Case(r"ability/model\.safetensors", overwritten("ability", (2).to_bytes(8, "little") + b"[]")),
    "a header of zeros": Case(r"ability/model\.safetensors", overwritten("ability", bytes(100))),
    "a header with an unknown dtype": Case(rf"ability/model\.safetensors.*{NAME}", header(dtype="F3")),
    "a header with a negative offset": Case(r"ability/model\.safetensors", header(data_offsets=[-8, 760])),
    "a header whose shape does not fit its bytes": Case(r"ability/model\.safetensors", header(shape=[24, 17])),
    "a header without offsets": Case(rf"ability/model\.safetensors.*{NAME}", header(data_offsets=None)),
    "a header with a huge shape": Case(r"ability/model\.safetensors", header(shape=[2**40, 2**40])),
    "a tensor is missing": Case(rf"abilities\.math\.ability.*{NAME}.*missing", without("ability")),
    "a tensor is missing in the base": Case(rf"{NAME}.*base", without("base"), ability()),
    "a tensor has another shape": Case(rf"abilities\.math\.source_language.*{NAME}.*\[16, 24\].*\[24, 16\]", replaced("source", torch.zeros(16, 24, dtype=torch.bfloat16))),
    "a tensor is of integers": Case(rf"languages\.sw\.checkpoint.*{NAME}.*int8", replaced("sw", torch.zeros(24, 16, dtype=torch.int8))),
    "another vocabulary": Case(r"languages\.te\.checkpoint.*vocabulary.*48.*40", other_vocabulary("te")),
    "another vocabulary in the base": Case(r"vocabulary.*40.*48", other_vocabulary("base"), ability()),
    "another architecture": Case(
        r"abilities\.math\.ability.*(missing|counterpart).*",
        lambda folder: write_model(folder / "gpt2", skeleton("gpt2").config, random_tensors(skeleton("gpt2").shapes)),
        ability(ability="gpt2"),
    ),
    "a quantized base": Case(r"base.*quantization_config", lambda folder: text("base/config.json", json.dumps({"quantization_config": {}}))(folder)),
    "NaN in the base": Case(rf"base.*{NAME}.*nan", spoil(float("nan"), "base"), ability() | {"languages": {}}),
    "infinity in the base": Case(rf"base.*{NAME}.*-inf", spoil(float("-inf"), "base"), ability() | {"languages": {}}),
    "NaN in a norm of the base": Case(r"base.*model\.norm\.weight.*nan", spoil(float("nan"), "base", "model.norm.weight", 0), {"abilities": {}, "languages": {}}),
    "NaN in the ability": Case(rf"ability.*{NAME}.*nan", spoil(float("nan"), "ability"), ability()),
    "infinity in the source language": Case(rf"source.*{NAME}.*inf", spoil(float("inf"), "source"), ability(source_language="source", beta=1.0)),
    "NaN in a language": Case(rf"sw.*{NAME}.*nan", spoil(float("nan"), "sw")),
    "NaN in a language, in float32": Case(
        rf"te.*{NAME}.*nan", lambda folder: replaced("te", torch.full((24, 16), float("nan")))(folder), {"abilities": {}}
    ),
    "NaN in scores": Case(
        rf"key_neurons.*scores\.safetensors.*{NAME}.*NaN",
        lambda folder: poison_file(folder / "scores.safetensors", NAME),
    ),
    "NaN in a pack": Case(rf"math\.safetensors.*{NAME}", lambda folder: poison_file(folder / "math.safetensors", NAME)),
    "NaN in an adapter": Case(r"adapter.*lora_B.*NaN", adapter_tensor(poison_adapter)),
    "a pack of another base": Case(r"abilities\.science\.pack.*math\.safetensors.*identity", None, {"base": "other-base", "abilities": {"science": {"pack": "math.safetensors"}}, "languages": {}}),
    "scores of another base": Case(r"key_neurons.*scores\.safetensors.*identity", None, {"base": "other-base", **ability(key_neurons={"scores": "scores.safetensors"})}),
    "scores of the other granularity": Case(r"key_neurons.*granularity.*unit.*parameter", None, ability(key_neurons={"scores": "scores.safetensors", "granularity": "unit"})),
    "scores by another method": Case(r"key_neurons.*method.*random.*value-change", None, ability(key_neurons={"scores": "scores.safetensors", "method": "random"})),
    "scores that are not there": Case(r"key_neurons.*absent\.safetensors", None, ability(key_neurons={"scores": "absent.safetensors"})),
    "a model where scores should be": Case(r"key_neurons.*model.*scores.*maet locate", lambda folder: single_file(folder, "te"), ability(key_neurons={"scores": "te/model.safetensors"})),
    "an unknown locator": Case(r"key_neurons.*method.*magic.*value-change", None, ability(key_neurons={"method": "magic"})),
    "an unknown recipe field": Case(r"recipe\.yaml.*abilities\.math\.gama.*gamma", None, ability(gama=2)),
    "a percentage out of range": Case(r"recipe\.yaml.*abilities\.math\.tensors\.k2.*101.*0 to 100", None, ability(tensors={"k2": 101})),
    "a wrong type": Case(r"recipe\.yaml.*eta.*'one'.*number", None, {"eta": "one"}),
    "a coefficient that is no number": Case(r"recipe\.yaml.*eta.*nan.*finite", None, {"eta": float("nan")}),
    "a coefficient without bound": Case(r"recipe\.yaml.*languages\.sw\.mu.*inf.*finite", None, {"languages": {"sw": {"checkpoint": "sw", "mu": float("inf")}}}),
    "a pattern without a match": Case(r"abilities\.math\.tensors\.exclude.*nothing", None, ability(tensors={"exclude": ["*nothing*"]})),
    "a coefficient that the output cannot hold": Case(r"output\.dtype.*float16", None, {"output": {"dtype": "float16"}, "languages": {"sw": {"checkpoint": "sw", "mu": 1e6}}}),
    "a coefficient that nothing can hold": Case(r"beyond|too large|does not fit", None, {"languages": {"sw": {"checkpoint": "sw", "mu": 1e300}}}),
    "a pickle in a folder": Case(r"ability/pytorch_model\.bin.*pickle", pickled("ability", "pytorch_model.bin")),
    "a pickle as the base": Case(r"base/model\.pt.*pickle", pickled("base", "model.pt")),
    "a pickle by its name": Case(r"abilities\.math\.ability.*weights\.bin.*pickle", lambda folder: torch.save({}, folder / "weights.bin"), ability(ability="weights.bin")),
    "a pickle named like safetensors": Case(r"weights\.safetensors", lambda folder: torch.save({}, folder / "weights.safetensors"), ability(ability="weights.safetensors")),
    "a pickled adapter": Case(
        r"abilities\.style\.ability.*adapter.*pickle", lambda folder: (folder / "adapter/adapter_model.safetensors").rename(folder / "adapter/adapter_model.bin")
    ),
    "an empty folder": Case(r"abilities\.math\.ability.*empty.*no safetensors", lambda folder: (folder / "empty").mkdir(), ability(ability="empty")),
    "two files and no index": Case(r"ability.*index", remove(f"ability/{INDEX}")),
    "a folder that is not there": Case(r"languages\.sw\.checkpoint.*nowhere", None, {"languages": {"sw": {"checkpoint": "./nowhere"}}}),
    "a base that is not there": Case(r"base.*nowhere", None, {"base": "./nowhere"}),
    "a hub id that is not in the cache": Case(r"abilities\.math\.ability.*nobody/nothing", None, ability(ability="nobody/nothing")),
    "a hub id with a strange revision": Case(r"base.*nobody/nothing@v1", None, {"base": "nobody/nothing@v1"}),
    "an adapter as the base": Case(r"base.*adapter", None, {"base": "adapter"}),
    "an adapter of another shape": Case(r"abilities\.style\.ability.*down_proj.*99.*24", adapter_tensor(grow_adapter)),
    "an adapter with half a pair": Case(r"abilities\.style\.ability.*q_proj", adapter_tensor(orphan_adapter)),
    "an adapter for another module": Case(r"abilities\.style\.ability.*zz_proj", adapter_tensor(stranger_adapter)),
    "a DoRA adapter": Case(r"abilities\.style\.ability.*DoRA.*PEFT", adapter_config(use_dora=True)),
    "DoRA by its tensors": Case(r"abilities\.style\.ability.*magnitude", adapter_tensor(dora_adapter)),
    "another kind of adapter": Case(r"abilities\.style\.ability.*IA3.*LoRA", adapter_config(peft_type="IA3")),
    "an adapter config without a rank": Case(r"abilities\.style\.ability.*adapter_config\.json", adapter_config(r=None)),
    "an adapter config with a rank of zero": Case(r"abilities\.style\.ability.*adapter_config\.json", adapter_config(r=0)),
    "an adapter config that is a list": Case(r"adapter_config\.json", text("adapter/adapter_config.json", "[]")),
    "an adapter config that is no JSON": Case(r"adapter_config\.json.*JSON", text("adapter/adapter_config.json", "{")),
    "an adapter with a broken pattern": Case(r"abilities\.style\.ability.*adapter_config\.json", adapter_config(rank_pattern={"(": 2})),
}  # fmt: skip


def poison_file(path, name):
    """NaN into one tensor of a scores file or pack; its metadata stays."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    key = next(key for key in tensors if key.split("::")[0] == name and tensors[key].is_floating_point())
    tensors[key].view(-1)[-1] = float("nan")
    save_file(tensors, path, metadata)


def prepared(folder, case):
    if case.breaks:
        case.breaks(folder)
    content = good_recipe() | case.recipe
    # not through Recipe: it would refuse what must arrive broken
    (folder / "recipe.yaml").write_text(as_yaml(content))
    return folder / "recipe.yaml"


def as_yaml(content):
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(content, stream)
    return stream.getvalue()


def everything(folder):
    return {path: path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()} | {
        path: None for path in Path(folder).rglob("*") if not path.is_file()
    }


def assert_refused(outcome, says):
    lines = outcome.stderr.splitlines()
    assert outcome.status == 2, outcome
    assert len(lines) == 1, outcome.stderr
    assert re.search(says, lines[0]), f"{lines[0]!r} does not say {says!r}"
    assert lines[0].startswith("maet")
    assert "Traceback" not in lines[0]
    assert outcome.stdout == ""


@pytest.mark.parametrize("name", CASES)
def test_a_merge_is_refused(folder, maet, name):
    case = CASES[name]
    recipe = prepared(folder, case)
    before = everything(folder)
    assert_refused(maet("merge", recipe, "-o", folder / "new" / "merged", "--device", "cpu"), case.says)
    assert everything(folder) == before
    with pytest.raises(InputError, match=case.says) as caught:
        merge(Recipe.load(recipe), folder, folder / "new" / "merged", device="cpu")
    assert "\n" not in str(caught.value)
    assert everything(folder) == before


def test_without_a_break_the_merge_works(folder, maet):
    """Otherwise the cases above would prove nothing."""
    recipe = prepared(folder, Case(""))
    outcome = maet("merge", recipe, "-o", folder / "merged", "--device", "cpu", "--json")
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout)["tensors_changed"] > 0


# What each other command must refuse, with the broken thing made by the case of the same name.
OTHER_COMMANDS = [
    ("a shard of the base is missing", ["inspect", "base"]),
    ("the base is cut short", ["inspect", "base"]),
    ("a header that is too long", ["inspect", "ability"]),
    ("a pickle as the base", ["inspect", "base"]),
    ("an empty folder", ["inspect", "empty"]),
    ("a folder that is not there", ["inspect", "./nowhere"]),
    ("a hub id that is not in the cache", ["inspect", "nobody/nothing"]),
    ("NaN in the ability", ["locate", "--base", "base", "--trained", "ability", "-o", "new.safetensors"]),
    ("a tensor is missing", ["locate", "--base", "base", "--trained", "ability", "-o", "new.safetensors"]),
    ("an adapter of another shape", ["locate", "--base", "base", "--trained", "adapter", "-o", "new.safetensors"]),
    ("another vocabulary", ["pack", "language", "--base", "base", "--checkpoint", "te", "-o", "new.safetensors"]),
    ("NaN in a language", ["pack", "language", "--base", "base", "--checkpoint", "sw", "-o", "new.safetensors"]),
    ("a tensor is missing", ["pack", "ability", "--base", "base", "--ability", "ability", "-o", "new.safetensors"]),
    ("NaN in scores", ["pack", "ability", "--base", "base", "--ability", "ability", "--key-neurons", "scores.safetensors", "-o", "new.safetensors"]),
    ("a tensor is missing", ["select", "recipe.yaml"]),
    ("NaN in a language", ["select", "recipe.yaml"]),
    ("an unknown recipe field", ["select", "recipe.yaml"]),
    ("a pattern without a match", ["select", "recipe.yaml"]),
    ("a shard of the base is missing", ["generate", "base", "--prompt", "t5 t6"]),
    ("an unknown recipe field", ["generate", "recipe.yaml", "--prompt", "t5 t6"]),
    ("NaN in a language", ["generate", "recipe.yaml", "--prompt", "t5 t6"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "command"), OTHER_COMMANDS, ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_other_commands_refuse_it_too(folder, maet, monkeypatch, name, command):
    prepared(folder, CASES[name])
    monkeypatch.chdir(folder)
    before = everything(folder)
    says = {"NaN in scores": NAME}.get(name, CASES[name].says.split(".*")[-1])
    assert_refused(maet(*command), says)
    assert everything(folder) == before


USAGE = {
    "an unknown command": (["marge"], "marge"),
    "an unknown option": (["inspect", "base", "--jason"], "--jason"),
    "a missing argument": (["merge", "-o", "x"], "RECIPE"),
    "a missing option": (["merge", "recipe.yaml"], "--output|-o"),
    "a recipe that is not there": (["merge", "absent.yaml", "-o", "x"], r"absent\.yaml"),
    "a folder as a recipe": (["merge", "base", "-o", "x"], "base"),
    "a device that does not exist": (["merge", "recipe.yaml", "-o", "x", "--device", "abacus"], "--device.*abacus"),
    "k1 out of range": (["pack", "ability", "--base", "base", "--ability", "ability", "--k1", "101", "-o", "x"], "k1.*101"),
    "an unknown granularity": (["locate", "--base", "base", "--trained", "ability", "--granularity", "layer", "-o", "x"], "granularity.*layer"),
    "a locator without a trained model": (["locate", "--base", "base", "-o", "x"], "trained"),
    "an unknown method": (["locate", "--base", "base", "--method", "magic", "-o", "x"], "magic"),
    "a glob without a match": (["locate", "--base", "base", "--trained", "ability", "--include", "*zzz*", "-o", "x"], "zzz"),
    "beta without a source language": (["pack", "ability", "--base", "base", "--ability", "ability", "--beta", "1", "-o", "x"], "beta"),
    "a coefficient that is no number": (["pack", "ability", "--base", "base", "--ability", "ability", "--alpha", "nan", "-o", "x"], "alpha"),
    "no tokens": (["generate", "base", "--prompt", "t5", "--max-new-tokens", "0"], "max-new-tokens"),
    "an output in a folder that is a file": (["merge", "recipe.yaml", "-o", "recipe.yaml/x"], r"recipe\.yaml/x"),
    "scores in a folder that is not there": (["locate", "--base", "base", "--trained", "ability", "-o", "none/x.safetensors"], "none"),
    "a pack in a folder that is not there": (["pack", "language", "--base", "base", "--checkpoint", "sw", "-o", "none/x.safetensors"], "none"),
    "an empty output": (["merge", "recipe.yaml", "-o", ""], "output"),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGE)
def test_wrong_use_is_one_line(folder, maet, monkeypatch, name):
    prepared(folder, Case(""))
    monkeypatch.chdir(folder)
    command, says = USAGE[name]
    before = everything(folder)
    assert_refused(maet(*command), says)
    assert everything(folder) == before


# --- where the output goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "empty directory", "file", "dangling link"])
def test_an_output_that_exists_is_never_touched(folder, maet, kind):
    recipe = prepared(folder, Case(""))
    output = folder / "merged"
    if kind == "file":
        output.write_text("mine")
    elif kind == "dangling link":
        output.symlink_to(folder / "nowhere")
    else:
        output.mkdir()
        if kind == "directory":
            (output / "mine").write_text("mine")
    before = everything(folder)
    assert_refused(maet("merge", recipe, "-o", output), r"merged.*exists already.*(choose|remove)")
    assert everything(folder) == before


@pytest.mark.parametrize(
    "command",
    [
        ["locate", "--base", "base", "--trained", "ability"],
        ["pack", "ability", "--base", "base", "--ability", "ability"],
        ["pack", "language", "--base", "base", "--checkpoint", "sw"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_file_that_exists_is_never_touched(folder, maet, monkeypatch, command):
    monkeypatch.chdir(folder)
    Path("mine.safetensors").write_text("mine")
    before = everything(folder)
    assert_refused(maet(*command, "-o", "mine.safetensors"), r"mine\.safetensors.*exists already")
    assert everything(folder) == before
    assert Path("mine.safetensors").read_text() == "mine"


def test_too_little_room_is_seen_before_the_work(folder, maet, monkeypatch):
    recipe = prepared(folder, Case(""))
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    before = everything(folder)
    assert_refused(maet("merge", recipe, "-o", folder / "new" / "merged"), r"new/merged.*GB.*free")
    assert everything(folder) == before


def limited(folder, *command, file_bytes):
    """The command in a process that may write files of at most `file_bytes`: writing more fails in the middle."""
    program = textwrap.dedent("""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = int(sys.argv[1])
        from maet_core.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        main(sys.argv[2:])
    """)
    environment = child_environment()
    return subprocess.run(
        [sys.executable, "-c", program, str(file_bytes), *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["merge", "recipe.yaml", "-o", "new/merged", "--device", "cpu"],
        ["pack", "language", "--base", "base", "--checkpoint", "sw", "-o", "new.safetensors"],
    ],
    ids=lambda command: command[0],
)
def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(folder, command):
    recipe = prepared(folder, Case(""))
    assert recipe.exists()
    before = everything(folder)
    # the first use compiles, and keeps what it compiles on the disk
    assert limited(folder, *command, file_bytes=1 << 40).returncode == 0
    for made in set(everything(folder)) - set(before):
        shutil.rmtree(made, ignore_errors=True) if made.is_dir() else made.unlink(missing_ok=True)
    assert everything(folder) == before
    ended = limited(folder, *command, file_bytes=4000)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
    assert "no space left" in ended.stderr
    assert everything(folder) == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here ({done.stderr.strip()}); the limit on file sizes stands in")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_leaves_nothing(folder, maet, small_disk, monkeypatch):
    recipe = prepared(folder, Case(""))
    usage = shutil.disk_usage(folder)
    # the check beforehand is passed: another program takes the room while the merge runs
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert_refused(maet("merge", recipe, "-o", small_disk / "merged", "--device", "cpu"), r"merged.*no space left")
    assert list(small_disk.iterdir()) == []
    monkeypatch.chdir(folder)
    assert_refused(
        maet("pack", "language", "--base", "base", "--checkpoint", "sw", "-o", small_disk / "sw.safetensors"),
        r"sw\.safetensors.*no space left",
    )
    assert list(small_disk.iterdir()) == []


def test_an_input_that_shrinks_while_it_is_read(folder):
    """Whoever replaces a model during a merge gets an error and no half-old, half-new output."""
    recipe = prepared(folder, Case(""))
    single_file(folder, "sw")
    loaded = Recipe.load(recipe)
    checkpoint = Checkpoint.open(folder / "sw")
    assert checkpoint.read(NAME) is not None
    os.truncate(only_file(folder, "sw"), 5000)
    last = max(checkpoint.tensors.values(), key=lambda info: info.start).name
    with pytest.raises(InputError, match=r"sw/model\.safetensors.*(ended early|cut short)"):
        checkpoint.read(last)
    with pytest.raises(InputError):
        merge(loaded, folder, folder / "merged", device="cpu")
    assert not (folder / "merged").exists()


def test_errors_of_the_output_have_their_own_class(folder):
    recipe = Recipe.load(prepared(folder, Case("")))
    (folder / "merged").mkdir()
    with pytest.raises(OutputError):
        merge(recipe, folder, folder / "merged")
