"""Sweeps and tunings on a live model: what is varied, what is kept, what goes on after a stop."""

import json
from types import SimpleNamespace

import pytest
from small_workspace import build_workspace

from maet_core.conversation import Decoding
from maet_core.errors import Cancelled, InputError, OutputError
from maet_core.evaluation.asking import Ask
from maet_core.evaluation.engine import answer
from maet_core.evaluation.prompts import Protocol, build_prompt
from maet_core.evaluation.results import alone
from maet_core.evaluation.tasks import load_task
from maet_core.recipe import Recipe
from maet_core.search.asker import Asker
from maet_core.search.axes import Span, apply_settings, base_settings, grid, parse_span, parse_values, present_settings
from maet_core.search.points import Point, Search, pareto
from maet_core.search.sweep import sweep
from maet_core.search.trials import Budget, Trials
from maet_core.search.tune import choose, default_space, halves, tune


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = build_workspace(tmp_path_factory.mktemp("search") / "workspace")
    (folder / "general.txt").write_text("maembe ni matamu\n\nmaji ni baridi\n\nAsha ana maembe")
    return folder


@pytest.fixture
def recipe(workspace):
    return Recipe.load(workspace / "recipes" / "demo.yaml")


@pytest.fixture
def asks(workspace):
    task = load_task(str(workspace / "tasks" / "math.jsonl"), ["sw", "bn"])
    return [Ask(task, Protocol("own", max_new_tokens=3))]


def test_values_and_spans():
    assert parse_values("gamma", "0:1:0.25") == [0, 0.25, 0.5, 0.75, 1]
    assert parse_values("gamma", "0:1:0.1")[-1] == 1.0
    assert parse_values("k2", "50,100") == [50, 100]
    assert parse_values("method", "maet,ties") == ["maet", "ties"]
    assert parse_span("gamma", "0:2") == Span(0, 2)
    for name, text in (
        ("gamma", "0:2"),
        ("gamma", "2:0:1"),
        ("gamma", "0:1:0"),
        ("gamma", "x"),
        ("method", "magic"),
        ("gamma", "nan"),
    ):
        with pytest.raises(InputError, match=f"--{name}: found"):
            parse_values(name, text)
    with pytest.raises(InputError, match="LOW:HIGH"):
        parse_span("gamma", "2:0")


def test_a_grid_has_every_combination_once():
    points = grid({"gamma": [0.0, 1.0], "method": ["maet", "ties"], "k2": [50.0, 100.0]})
    assert len(points) == 6  # ties has no k2
    assert {"gamma": 1.0, "method": "ties"} in points
    with pytest.raises(InputError, match="nothing to vary"):
        grid({})


def test_settings_change_the_recipe(recipe):
    changed = apply_settings(recipe, {"gamma": 0.5, "mu.sw": 0.1, "k1": 7.0, "k2": 30.0, "eta": 2.0})
    ability = changed.abilities["math"]
    assert (ability.gamma, ability.key_neurons.k1, ability.tensors.k2, changed.eta) == (0.5, 7.0, 30.0, 2.0)
    assert (changed.languages["sw"].mu, changed.languages["bn"].mu) == (0.1, 0.5)
    ties = apply_settings(recipe, {"method": "ties", "k2": 50.0, "gamma": 0.3})
    assert (ties.method.name, ties.abilities["math"].key_neurons, ties.abilities["math"].gamma) == ("ties", None, 0.3)
    assert {one.mu for one in base_settings(recipe).languages.values()} == {0.0}
    for name in ("gamma.physics", "mu.te", "delta"):
        with pytest.raises(InputError, match=f"--{name}"):
            apply_settings(recipe, {name: 1.0})
    with pytest.raises(InputError, match="k2"):
        apply_settings(recipe, {"k2": 130.0})
    assert set(default_space(recipe)) == {"gamma", "k2", "beta", "mu.sw", "mu.bn"}


def test_the_live_model_answers_like_a_fresh_one(workspace, recipe, asks):
    """After a sequence of settings the float32 twin says what a model opened with that recipe says."""
    from maet_core.live import LiveModel
    from maet_core.sources import Sources

    asker = Asker(LiveModel(Sources.open(recipe, workspace / "recipes")), asks, {})
    asker.become(apply_settings(recipe, {"gamma": 0.0}))
    wanted = apply_settings(recipe, {"gamma": 2.0, "mu": 1.0})
    asker.become(wanted)
    fresh = LiveModel(Sources.open(wanted, workspace / "recipes"))
    prompts = [build_prompt(item, asks[0].protocol) for item in asks[0].task.items]
    assert answer(asker.twin.model, fresh.tokenizer, prompts, Decoding(8)) == answer(
        fresh.model.float(), fresh.tokenizer, prompts, Decoding(8)
    )


def test_a_sweep_goes_on_where_it_was(workspace, recipe, asks, tmp_path):
    axes = {"gamma": [0.0, 1.0], "eta": [0.0, 1.0]}
    general = {"sw": str(workspace / "general.txt")}
    whole = sweep(recipe, workspace / "recipes", axes, asks, tmp_path / "whole", general)
    assert [point.role for point in whole.points] == ["base", "recipe", "", "", "", ""]
    assert whole.role("base").forgetting == 0
    assert [point.settings for point in whole.points[2:]] == grid(axes)
    assert list(whole.points[2].right) == ["math sw", "math bn"]
    # the recipe is one of the grid's points: γ = 1, η = 1
    assert whole.points[5].right == whole.role("recipe").right
    assert whole.points[5].forgotten == whole.role("recipe").forgotten

    def stop(phase, done, total):
        if done == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        sweep(recipe, workspace / "recipes", axes, asks, tmp_path / "part", general, progress=stop)
    with (tmp_path / "part" / "points.jsonl").open("a") as file:
        file.write('{"settings": {"gam')  # killed while it wrote
    assert len(Search.load(tmp_path / "part").points) == 3
    found = sweep(recipe, workspace / "recipes", axes, asks, tmp_path / "part", general)
    assert [(p.settings, p.right, p.forgotten) for p in found.points] == [
        (p.settings, p.right, p.forgotten) for p in whole.points
    ]
    with pytest.raises(OutputError, match="holds another search"):
        sweep(recipe, workspace / "recipes", {"gamma": [0.5]}, asks, tmp_path / "part", general)


def point(gain, forgetting, **more):
    right = "1" * gain + "0" * (100 - gain)
    return Point({"gamma": float(gain)}, {"t sw": right}, {"sw": (forgetting, 0.1)}, **more)


def test_the_front_holds_what_nothing_beats():
    points = [
        point(50, 0.3),
        point(40, 0.1),
        point(40, 0.2),
        point(60, 0.3),
        point(30, 0.15),
        point(60, 0.4),
        point(10, 0.05),
    ]
    front = pareto(points)
    beaten = {
        id(p) for p in points for q in points
        if q.gain >= p.gain and q.forgetting <= p.forgetting and (q.gain, q.forgetting) != (p.gain, p.forgetting)
    }  # fmt: skip
    assert [(p.gain, p.forgetting) for p in front] == [(0.6, 0.3), (0.4, 0.1), (0.1, 0.05)]
    assert {id(p) for p in front} == {id(p) for p in points} - beaten


def test_points_are_compared_on_the_questions_that_both_were_asked():
    part = Point({}, {"t sw": "110"})
    whole = Point({}, {"t sw": "100111"})
    assert (part.against(whole).gained, part.against(whole).lost, part.against(whole).n) == (1, 0, 3)


def test_halves_share_no_problem(asks):
    task = asks[0].task
    first, second = halves(task)
    assert {item.problem for item in first.items} & {item.problem for item in second.items} == set()
    assert len(first.items) + len(second.items) == len(task.items)
    assert set(first.languages) == set(task.languages)


@pytest.mark.parametrize("two_goals", [False, True])
def test_a_tuning_goes_on_and_is_tested_once(workspace, recipe, asks, tmp_path, two_goals):
    first, second = halves(asks[0].task)
    development, test = [Ask(first, asks[0].protocol)], [Ask(second, asks[0].protocol)]
    space = {"gamma": Span(0, 2), "mu.sw": Span(0, 1)}
    general = {"sw": str(workspace / "general.txt")}

    def run(trials, folder, progress=None):
        return tune(
            recipe,
            workspace / "recipes",
            space,
            development,
            test,
            folder,
            Budget(trials),
            general,
            two_goals,
            portions=1,
            progress=progress,
        )

    def stop(phase, done, total):
        if phase == "tuning" and done == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(4, tmp_path / "t", stop)
    kept = Search.load(tmp_path / "t").points
    assert len(kept) == 4
    search, tested = run(4, tmp_path / "t")
    assert search.points[:4] == kept
    assert len(search.points) == 6
    assert tested.labels == ["base", "recipe", "tuned"]
    assert {cell.task for cell in tested.cells} == {second.name}
    saved = Recipe.load(tmp_path / "t" / "recipe.yaml")
    assert saved.abilities["math"].gamma == choose(search).settings.get("gamma", 1.0)
    from maet_core.sources import Sources

    Sources.open(saved, tmp_path / "t")


def test_a_losing_trial_is_given_up(workspace, recipe, tmp_path, monkeypatch):
    """Of sixty questions in four portions, one that gets none right beside one that gets all is asked only the first."""
    rows = [
        {"id": f"{i:02d}-sw", "language": "sw", "question": f"{i}?", "answer": str(i), "prompt": f"{i}"}
        for i in range(60)
    ]
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    ask = Ask(load_task(str(path)), Protocol("own", max_new_tokens=1))
    asked = []

    def verdicts(self, ask, items, progress=None, halted=None):
        right = self.live.recipe.abilities["math"].gamma == 1.0
        asked.append(len(items))
        return [right] * len(items)

    monkeypatch.setattr(Asker, "verdicts", verdicts)
    search, _ = tune(recipe, workspace / "recipes", {"gamma": Span(1.5, 2)}, [ask], [ask], tmp_path / "t", Budget(3))
    assert [p.pruned for p in search.points] == [False, False, True, True, True]
    assert len(search.points[2].right["many sw"]) == 15
    assert choose(search).role == "recipe"


def test_the_sampler_knows_where_the_recipe_stands(recipe, tmp_path):
    """It begins from the recipe's own coefficients, where the space holds them; a tuning that goes on breeds from all that went before."""
    spaces = {
        "inside": {"gamma": Span(0, 2), "beta": Span(0, 1), "mu.sw": Span(0, 1.5)},
        "beyond": {"gamma": Span(1.5, 2)},
    }
    assert present_settings(recipe, spaces["inside"]) == {"gamma": 1.0, "beta": 0.5, "mu.sw": 0.5}
    told = {}
    for name, space in spaces.items():
        points = [Point({}, {"t sw": "00"}, role="base"), Point({}, {"t sw": "11"}, {"sw": (0.5, 0.1)}, role="recipe")]
        drawn = {key: span.high for key, span in space.items()}
        points += [Point(drawn, {"t sw": "10"}, {"sw": (0.25, 0.1)})]
        search = Search(tmp_path, {}, points)
        asker = SimpleNamespace(asks=[])
        trials = Trials(search, SimpleNamespace(asker=asker), recipe, space, two_goals=True, portions=4, seed=0)
        trials.run(Budget(1), None, None)
        told[name] = [(trial.params, trial.values) for trial in trials.study.trials]
        assert {trial.system_attrs["NSGAIISampler:generation"] for trial in trials.study.trials} == {0}
    assert told["inside"] == [
        ({"gamma": 2.0, "beta": 1.0, "mu.sw": 1.5}, [0.5, 0.25]),
        ({"gamma": 1.0, "beta": 0.5, "mu.sw": 0.5}, [1.0, 0.5]),
    ]
    assert told["beyond"] == [({"gamma": 2.0}, [0.5, 0.25])]


@pytest.mark.parametrize(
    ("names", "found"),
    [(["k1"], None), (["k2", "eta", "method"], {"k2": 100.0, "eta": 1.0, "method": "maet"}), (["mu"], None)],
)
def test_a_coefficient_without_one_value_has_no_place(recipe, names, found):
    bare = recipe.with_value("abilities.math.key_neurons", None).with_value("languages.sw.mu", 0.25)
    assert present_settings(bare.with_value("abilities.math.tensors", {"k2": 100.0}), names) == found


def test_the_commands(maet, workspace, tmp_path):
    common = ["--task", workspace / "tasks" / "math.jsonl", "--languages", "sw", "--max-new-tokens", "2"]
    recipe = workspace / "recipes" / "demo.yaml"
    told = maet("sweep", recipe, *common, "--gamma", "0:1:1", "--set", "mu.sw=0,1", "-o", tmp_path / "s", "--json")
    assert told.status == 0, told.stderr
    assert len(json.loads(told.stdout)["points"]) == 2 + 4
    told = maet("tune", recipe, *common, "--gamma", "0:1", "--trials", "1", "-o", tmp_path / "t")
    assert told.status == 0, told.stderr
    assert "questions that no trial saw" in told.stdout
    told = maet("sweep", recipe, *common, "-o", tmp_path / "x")
    assert (told.status, "nothing to vary" in told.stderr) == (2, True)
    told = maet("sweep", recipe, *common, "--set", "gamma=1", "-o", tmp_path / "x")
    assert "expected one of the recipe's" in told.stderr


@pytest.mark.parametrize(("command", "gamma"), [("sweep", "0:1:0.5"), ("tune", "0:1")])
def test_two_on_one_folder(maet, workspace, tmp_path, command, gamma):
    asked = ["--task", workspace / "tasks" / "math.jsonl", "--languages", "sw", "--gamma", gamma, "-o", tmp_path / "s"]
    with alone(tmp_path / "s"):
        told = maet(command, workspace / "recipes" / "demo.yaml", *asked)
    assert told.status == 2
    assert "another process is writing it now" in told.stderr
    assert list((tmp_path / "s").iterdir()) == []
