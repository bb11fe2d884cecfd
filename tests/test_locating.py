"""Locating that was stopped or killed goes on, to the same scores byte for byte."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
from models import add_tokenizer, make_family

from maet_core.checkpoints import Checkpoint
from maet_core.cli import main
from maet_core.errors import InputError, OutputError, Stopped
from maet_core.importance import save_scores
from maet_core.importance.attribution import attribute
from maet_core.importance.locators import participating
from maet_core.importance.partial_scores import PartialScores
from maet_core.locating import Sample, locate_in_corpus
from maet_core.resident import load_model
from maet_core.unfinished import begun

TEXTS = [("Q: two and three?", " five"), ("Q: one and one?", " two"), ("", "a plain text of some length")] * 24

ALWAYS = {"every_seconds": 0.0, "share": math.inf}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locating")
    make_family(folder, "llama", dtype="bfloat16", seed=4)
    add_tokenizer(folder / "base")
    rows = ({"prompt": prompt, "answer": answer} for prompt, answer in TEXTS)
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def batches(count=6):
    ids = torch.randint(3, 40, (count, 2, 12), generator=torch.Generator().manual_seed(3))
    return [(part, part) for part in ids]


class Interrupt:
    """Lets a model answer so many batches, then does what ends the work."""

    def __init__(self, model, after, end):
        self.forward, self.left, self.end, self.calls = model.forward, after, end, 0
        model.forward = self

    def __call__(self, *args, **kwargs):
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            self.end()
        return self.forward(*args, **kwargs)


def fail():
    raise RuntimeError("killed")


@pytest.mark.parametrize("granularity", ["parameter", "unit"])
@pytest.mark.parametrize("after", [2, 3, 5])
def test_attribution_goes_on_where_it_was(world, tmp_path, after, granularity):
    base = Checkpoint.open(world / "base")
    names = participating(base)
    calm = attribute("taylor", base, load_model(base), batches(), names, granularity, halves=True)
    model = load_model(base)
    Interrupt(model, after, fail)
    with pytest.raises(RuntimeError, match="killed"):
        attribute(
            "taylor",
            base,
            model,
            batches(),
            names,
            granularity,
            True,
            partial=PartialScores(tmp_path, "this", **ALWAYS),
        )
    assert len(list(tmp_path.iterdir())) == 2
    model = load_model(base)
    counted = Interrupt(model, 100, fail)
    again = attribute(
        "taylor", base, model, batches(), names, granularity, True, partial=PartialScores(tmp_path, "this", **ALWAYS)
    )
    assert counted.calls == len(batches()) - after
    files = [save_scores(scores, tmp_path / f"{number}.safetensors") for number, scores in enumerate((calm, again))]
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(InputError, match="another locating"):
        attribute("taylor", base, model, batches(), names, partial=PartialScores(tmp_path, "that"))
    (tmp_path / "state.json").write_text('{"work": "this", "step": 4}')
    with pytest.raises(InputError, match=r"step-4.*cannot be read"):
        attribute("taylor", base, model, batches(), names, partial=PartialScores(tmp_path, "this"))


@pytest.mark.parametrize("stops", [[2], [5], [9, 3]])
def test_a_probe_goes_on_where_it_was(world, tmp_path, stops):
    """The two halves of the sample are trained on for four steps each, then the whole for eight."""

    def locate(folder=None, after=None):
        asked = 0

        def halted():
            nonlocal asked
            asked += 1
            return after is not None and asked > after

        base = Checkpoint.open(world / "base")
        return locate_in_corpus("probe", base, TEXTS, Sample(8, 2, 16), halves=True, halted=halted, folder=folder)

    reading = 1  # the corpus is read in one piece, which asks as well
    for after in stops:
        with pytest.raises(Stopped, match="the same command goes on"):
            locate(tmp_path / "state", reading + after)
    calm, again = locate(), locate(tmp_path / "state")
    files = [save_scores(scores, tmp_path / f"{number}.safetensors") for number, scores in enumerate((calm, again))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_goes_on_after_sigterm_and_after_a_kill(world, tmp_path, monkeypatch, capsys):
    command = ["locate", "--base", str(world / "base"), "--corpus", str(world / "c.jsonl"), "--method", "gradient"]
    command += ["--batches", "6", "--batch-rows", "2", "--row-tokens", "16", "--split-half", "-o"]
    calm, out = tmp_path / "calm.safetensors", tmp_path / "out.safetensors"

    def run(output):
        with pytest.raises(SystemExit) as ending:
            main([*command, str(output)])
        return ending.value.code

    assert run(calm) == 0
    killed = f"""
import os, signal
from maet_core.importance import attribution, partial_scores
from maet_core.cli import main
partial_scores.PartialScores.__init__.__defaults__ = (0.0, float("inf"))
real, left = attribution.tell, [3]
def tell(progress, halted, phase, done, total):
    if phase.startswith("accumulating") and done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(progress, halted, phase, done, total)
attribution.tell = tell
main({[*command, str(out)]!r})
"""
    assert subprocess.run([sys.executable, "-c", killed], capture_output=True).returncode == -signal.SIGKILL
    state = tmp_path / ".out.safetensors.locating"
    assert json.loads((state / "state.json").read_text())["step"] == 3
    assert not out.exists()

    from maet_core.importance import attribution

    real, seen = attribution.tell, []

    def tell(progress, halted, phase, done, total):
        seen.append(done)
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        real(progress, None, phase, done, total)

    monkeypatch.setattr(attribution, "tell", tell)
    assert run(out) == 128 + signal.SIGTERM
    assert "stopped after batch 5 of 6" in capsys.readouterr().err
    assert run(out) == 0
    assert seen == [3, 4, 5]
    assert out.read_bytes() == calm.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calm.safetensors", "out.safetensors"]


def test_one_process_a_file(tmp_path):
    first, second = (begun(tmp_path / "scores", "locating", "making") for _ in range(2))
    with first, pytest.raises(OutputError, match="another process is making it now"):
        second.__enter__()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        begun(tmp_path / "file" / "scores", "locating", "making"),
    ):
        pass
