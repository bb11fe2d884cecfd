"""Whole evaluations: what is kept, what goes on after a stop, what is compared, and the command."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from small_workspace import build_workspace

from maet_core.errors import Cancelled, InputError, OutputError
from maet_core.evaluation import report
from maet_core.evaluation.asking import Ask
from maet_core.evaluation.prompts import Protocol
from maet_core.evaluation.results import Cell, Evaluation
from maet_core.evaluation.run import evaluate
from maet_core.evaluation.subjects import find_subjects
from maet_core.evaluation.tasks import load_task


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return build_workspace(tmp_path_factory.mktemp("evaluate") / "workspace")


@pytest.fixture
def asks(workspace):
    return [Ask(load_task(str(workspace / "tasks" / "math.jsonl")), Protocol("own", max_new_tokens=6))]


def subjects(workspace, *names):
    return find_subjects([str(workspace / name) for name in names or ("models/base", "recipes/demo.yaml")])


def test_every_answer_is_kept_with_its_verdict(workspace, asks, tmp_path):
    text = workspace / "general.txt"
    text.write_text("maembe ni matamu\n\nmaji ni baridi\n\nAsha ana maembe")
    found = evaluate(subjects(workspace), asks, tmp_path / "r", {"sw": str(text)})
    assert found.finished
    assert found.labels == ["base", "demo"]
    assert len(found.cells) == 2 * 3
    again = Evaluation.load(tmp_path / "r")
    assert again.cells == found.cells
    table = again.answers(again.cell("demo", "math", "bn"))
    assert table["id"].tolist() == ["test-000-bn", "test-001-bn", "test-002-bn"]
    assert set(table) >= {
        "question",
        "answer",
        "text",
        "strict",
        "flexible",
        "strict_right",
        "right",
        "prompt",
        "gloss",
    }
    assert not list((tmp_path / "r").rglob("*.part"))
    base, merged = again.texts
    assert report.loss_change(again, merged, base).value == pytest.approx(merged.nats_per_token - base.nats_per_token)
    assert again.tasks["math"]["protocol"]["text"].startswith("the task's own prompt, 0-shot, greedy")


def test_a_stopped_run_goes_on_and_ends_the_same(workspace, asks, tmp_path):
    whole = evaluate(subjects(workspace), asks, tmp_path / "whole", batch_rows=1)
    asked = []

    def stop(phase, done, total):
        asked.append(phase)
        if len(asked) == 7:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        evaluate(subjects(workspace), asks, tmp_path / "r", batch_rows=1, progress=stop)
    assert not Evaluation.load(tmp_path / "r").finished
    assert list((tmp_path / "r" / "answers").glob("*.part"))
    before = len(asked)
    found = evaluate(subjects(workspace), asks, tmp_path / "r", batch_rows=1, progress=lambda *told: asked.append(told))
    assert len(asked) - before < before + 24
    for cell, other in zip(found.cells, whole.cells, strict=True):
        assert found.answers(cell).equals(whole.answers(other))


def test_what_is_there_is_not_asked_again(workspace, asks, tmp_path):
    evaluate(subjects(workspace, "models/base"), asks, tmp_path / "r")
    asked = []
    found = evaluate(subjects(workspace), asks, tmp_path / "r", progress=lambda phase, *_: asked.append(phase))
    assert not [phase for phase in asked if phase.startswith("base")]
    assert found.labels == ["base", "demo"]


def test_a_torn_line_of_the_journal_is_asked_again(workspace, asks, tmp_path):
    def stop(phase, done, total):
        if done:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        evaluate(subjects(workspace), asks, tmp_path / "r", batch_rows=1, progress=stop)
    (journal,) = (tmp_path / "r" / "answers").glob("*.part")
    journal.write_text(journal.read_text()[:-9])
    found = evaluate(subjects(workspace), asks, tmp_path / "r", batch_rows=1)
    assert [cell.n for cell in found.cells] == [3] * 6


def test_another_protocol_or_other_weights_are_refused(workspace, asks, tmp_path):
    evaluate(subjects(workspace, "models/base"), asks, tmp_path / "r")
    other = [Ask(asks[0].task, Protocol("direct", max_new_tokens=6))]
    with pytest.raises(OutputError, match="was asked differently there"):
        evaluate(subjects(workspace, "models/base"), other, tmp_path / "r")
    fewer = [Ask(load_task(str(workspace / "tasks" / "math.jsonl"), limit=1), asks[0].protocol)]
    with pytest.raises(OutputError, match="has other questions there"):
        evaluate(subjects(workspace, "models/base"), fewer, tmp_path / "r")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something that is no evaluation"):
        evaluate(subjects(workspace, "models/base"), asks, tmp_path / "other")


def test_choices_are_scored(workspace, tmp_path):
    rows = [{"question": "moja?", "choices": ["a", "bcd"], "answer": i % 2, "language": "sw"} for i in range(3)]
    path = tmp_path / "choices.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = evaluate(subjects(workspace, "models/base"), [Ask(load_task(str(path)), Protocol())], tmp_path / "r")
    (cell,) = found.cells
    assert set(found.answers(cell)["strict"]) == {found.answers(cell)["strict"][0]}
    assert found.tasks["choices"]["languages"]["sw"]["baselines"] == {"most frequent choice": 2}


def test_words_are_compared_as_words(workspace, tmp_path):
    from maet_core.evaluation.engine import Reply
    from maet_core.evaluation.judging import judge_text
    from maet_core.evaluation.questions import Question

    item = Question("1", "bn", "?", answer="গরম জল")
    for text, strict, right in [("… #### গরম জল।", True, True), ("তাই\nগরম জল", False, True), ("গরম", False, False)]:
        row = judge_text(item, "", Reply(text, 3, "end"))
        assert (row["strict_right"], row["right"]) == (strict, right)


def test_tables(workspace, asks, tmp_path):
    found = evaluate(subjects(workspace), asks, tmp_path / "r")
    table = list(csv.DictReader(io.StringIO(report.to_csv(found))))
    assert len(table) == 6
    assert table[0]["protocol"].startswith("the task's own prompt")
    latex = report.to_latex(found, "math")
    assert latex.count(r"\\") == 1 + 2 + 2
    assert "n = 3$" in latex
    (pair, *_) = report.comparisons(found, "math", "base")
    assert (pair.cell.model, pair.paired.n) == ("demo", 3)
    assert report.counts_in(found, found.cells[0]) is False


def test_a_language_counts_only_above_the_best_baseline(tmp_path):
    """Of a hundred questions adding gets 20: 29 right leave it inside the interval (Wilson: from 21.0 for 29, from 19.2 for 27)."""
    languages = {lang: {"n": 100, "baselines": {"always add": 20, "copy a number": 5}} for lang in ("en", "sw")}
    cells = [
        Cell(model, "math", language, 100, right, right, 0, 0, 0, 0.0, "")
        for model, language, right in (
            ("a", "en", 29),
            ("a", "sw", 27),
            ("b", "en", 100),
            ("b", "sw", 29),
            ("c", "sw", 0),
        )
    ]
    found = Evaluation(tmp_path, tasks={"math": {"languages": languages}}, cells=cells)
    assert report.uncounted(found, "math") == {"a": ["sw"], "c": ["sw"]}


def test_the_command(maet, workspace, tmp_path):
    told = maet(
        "evaluate", workspace / "models" / "base", workspace / "recipes" / "demo.yaml", "--task", workspace / "tasks" / "math.jsonl",
        "--languages", "en,sw", "--max-new-tokens", "4", "-o", tmp_path / "r", "--json",
    )  # fmt: skip
    assert told.status == 0, told.stderr
    result = json.loads(told.stdout)
    assert [cell["language"] for cell in result["cells"]] == ["en", "sw"] * 2
    assert result["cells"][0]["interval_95"][1] > 0.5
    assert result["comparisons"][0]["is_luck"] is True
    shown = maet(
        "evaluate", workspace / "models" / "base", "--task", workspace / "tasks" / "math.jsonl", "--max-new-tokens", "4"
    )
    assert "at most 4 tokens, float32" in shown.stdout
    assert "always add" in shown.stdout
    assert "base: not above the best baseline in en, sw, bn, which do not count" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mgsm:nowhere"], "nowhere: no such folder of questions"),
        (["--task", "demo-math", "--languages", "xx"], "has no language xx"),
        (["--task", "demo-math", "--general", "sw"], "expected LANG=CORPUS"),
        (["--task", "demo-math", "--reference", "other"], "other is none of the models"),
        (["--task", "demo-math", "--chat", "--shots", "9", "--exemplars", "none.jsonl"], "no such file"),
    ],
)
def test_wrong_input_is_one_line(maet, workspace, arguments, message):
    told = maet("evaluate", workspace / "models" / "base", *arguments)
    assert told.status == 2
    assert message in told.stderr
    assert told.stderr.count("\n") == 1


def test_two_models_of_one_name(workspace):
    with pytest.raises(InputError, match="named twice"):
        subjects(workspace, "models/base", "models/base")


def test_one_writer_and_sigterm_leaves_what_was_answered(maet, workspace, tmp_path):
    task = workspace / "tasks" / "math.jsonl"
    command = [sys.executable, "-m", "maet_core", "evaluate", str(workspace / "models" / "base"), "--task", str(task)]
    command += ["--max-new-tokens", "200", "--batch-rows", "1", "-o", str(tmp_path / "r")]
    environment = {**os.environ, "MAET_PROGRESS": "lines"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:
        if line.startswith("progress") and int(line.split()[1]) > 0:
            break
    second = maet(*command[3:])
    assert second.status == 2
    assert "another process is writing it now" in second.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    (journal,) = (tmp_path / "r" / "answers").glob("*.part")
    assert len(journal.read_text().splitlines()) >= 2
