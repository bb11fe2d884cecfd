"""The page Evaluate: empty, with an evaluation, with a sweep."""

import pytest

from maet_core import jobs
from maet_core.evaluation.asking import Ask
from maet_core.evaluation.prompts import Protocol
from maet_core.evaluation.results import Evaluation
from maet_core.evaluation.run import evaluate
from maet_core.evaluation.subjects import find_subjects
from maet_core.evaluation.tasks import load_task
from maet_core.recipe import Recipe
from maet_core.search.sweep import sweep
from maet_core.studio import measured


@pytest.fixture
def asks(workspace):
    return [Ask(load_task(str(workspace / "tasks" / "math.jsonl"), ["sw", "bn"]), Protocol("own", max_new_tokens=3))]


@pytest.fixture
def evaluated(workspace, asks):
    names = [str(workspace / name) for name in ("models/base", "models/math-en")]
    (workspace / "corpora").mkdir(exist_ok=True)
    (workspace / "corpora" / "general-sw.txt").write_text("maji ni baridi\n\nmaembe ni matamu")
    return evaluate(
        find_subjects(names),
        asks,
        workspace / "results" / "first",
        {"sw": str(workspace / "corpora" / "general-sw.txt")},
    )


def test_without_results_it_says_what_to_do(app):
    test = app("evaluate")
    assert not test.exception
    assert "Nothing has been measured yet" in test.info[0].value
    assert any("maet evaluate" in code.value for code in test.code)


def test_looking_for_coefficients_is_a_job(app, workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))
    ordered, submit = [], jobs.submit

    def order(*words, **told):
        ordered.append((words[1], told))
        return submit(workspace, ["true"])

    monkeypatch.setattr(jobs, "submit", order)
    (workspace / "corpora").mkdir(exist_ok=True)
    (workspace / "corpora" / "general-sw.txt").write_text("maembe ni matamu\n")
    test = app("evaluate")
    test.selectbox(key="search-task").set_value("tasks/math.jsonl").run()
    shown = [code.value for code in test.code if code.value.startswith("maet tune")]
    assert shown == ["maet tune recipes/demo.yaml --task tasks/math.jsonl --trials 100 -o results/coefficients"]
    test.multiselect(key="search-general").set_value(["sw"]).run()
    test.checkbox(key="search-two-goals").check().run()
    (shown,) = [code.value for code in test.code if code.value.startswith("maet tune")]
    assert "--general sw=corpora/general-sw.txt --trials 100 --two-goals -o" in shown
    test.multiselect(key="search-general").set_value([]).run()
    options = test.selectbox(key="search-task").options
    assert [options[0], *options[-3:]] == ["demo-math", "mgsm", "msvamp", "gsm8k"]
    test.segmented_control(key="search-way").set_value("sweep").run()
    test.selectbox(key="search-prompt").set_value("direct").run()
    test.number_input(key="search-shots").set_value(2).run()
    test.text_input(key="search-k2").set_value("50,100").run()
    command = (
        "maet sweep recipes/demo.yaml --task tasks/math.jsonl --prompt direct --shots 2 "
        "--gamma 0:2:0.25 --k2 50,100 -o results/coefficients"
    )
    assert [code.value for code in test.code if code.value.startswith("maet sweep")] == [command]
    test.button(key="search-ask").click().run()
    assert not test.exception
    assert ordered == [([*command.split(), "--json"], {"output": "results/coefficients", "grows": True})]
    assert jobs.wait(workspace, 1, 300).name == "done"


def test_an_evaluation_with_a_chosen_cell(app, evaluated):
    test = app("evaluate", answers='["math-en", "sw"]', reading='"strict_right"')
    assert not test.exception
    assert any("math-en in Swahili" in heading.value for heading in test.subheader)
    assert any("Forgotten elsewhere" in heading.value for heading in test.subheader)
    assert len(test.dataframe) == 2


def test_a_link_to_a_cell_that_is_not_there_shows_the_map(app, evaluated):
    test = app("evaluate", answers='["nobody", "xx"]', result='"gone"')
    assert not test.exception
    assert not any("nobody" in heading.value for heading in test.subheader)


def test_a_sweep(app, workspace, asks):
    recipe = Recipe.load(workspace / "recipes" / "demo.yaml")
    sweep(
        recipe, workspace / "recipes", {"gamma": [0.0, 1.0], "eta": [0.0, 1.0]}, asks, workspace / "results" / "swept"
    )
    test = app("evaluate", result='"swept"')
    assert not test.exception
    assert len(test.dataframe[0].value) == 6


def test_answers_come_wrong_first_and_lost_before_that(evaluated):
    import pandas as pd

    cell, other = evaluated.cell("math-en", "math", "sw"), evaluated.cell("base", "math", "sw")
    for one, verdicts in ((cell, [True, False, False]), (other, [True, False, True])):
        table = evaluated.answers(one).assign(right=verdicts)
        table.to_parquet(evaluated.folder / one.file)
    table = measured.ordered_answers(evaluated, cell, other, "right")
    assert table["id"].tolist() == ["test-002-sw", "test-001-sw", "test-000-sw"]
    assert isinstance(table, pd.DataFrame)


def test_the_picture_is_a_png(evaluated):
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(measured.picture(Evaluation.load(evaluated.folder), "math", "right")))
    assert image.format == "PNG"
    assert image.width > 400
    assert len(image.getcolors(1 << 16)) > 3
