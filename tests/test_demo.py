"""The demo world: its texts, the line between training and test, a miniature build, and the models that are shipped."""

import itertools
import json
import random
import re
import statistics
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from maet_core.demo import plan, results, science, stages
from maet_core.demo.build import build
from maet_core.demo.corpora import documents, phrase_book, problem
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.manifest import hashes
from maet_core.demo.measure import Score, final_answer, reply_to, score, wilson_interval
from maet_core.demo.report import report
from maet_core.demo.results import Graded
from maet_core.demo.stages import draw
from maet_core.demo.stories import OPERATIONS, draw_story, numbers, templates
from maet_core.demo.tasks import task_rows
from maet_core.demo.texts import write_texts
from maet_core.demo.tokens import build_tokenizer
from maet_core.demo.voice import BOUNDARY, GAINS, LOSSES, Voice
from maet_core.errors import MaetError, OutputError, Stopped
from maet_core.recipe import Recipe
from maet_core.sources import Sources

ASSETS = Path(__file__).parent.parent / "assets" / "demo"
TRAINED_ON = [kind for stage in plan.STAGES for kind in stage.mix]


def stories(count, part="train", seed=0):
    rng = random.Random(seed)
    return [draw_story(rng, part) for _ in range(count)]


# texts


def observations(count, part="train", seed=0):
    rng = random.Random(seed)
    return [science.draw_observation(rng, part) for _ in range(count)]


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_sentence_can_be_said(code):
    voice = Voice(code)
    for cast in [drawn.cast for drawn in observations(40)]:  # a cast of science has what stories need, too
        said = [voice.say(name, cast) for name in voice.language.sentences]
        said += [voice.ask(name, cast) for name in voice.language.questions]
        said += [voice.ask_who(kind, cast) for kind in GAINS + LOSSES]
        for text in said:
            assert text == unicodedata.normalize("NFC", text)
            assert not set("{}|" + BOUNDARY) & set(text), text
            assert "  " not in text


def test_every_language_says_the_same_things():
    """Code-switching pairs phrases by key, so a sentence that shares no key with English would never be switched."""
    english = LANGUAGES["en"]
    for language in LANGUAGES.values():
        for table in ("sentences", "questions"):
            ours, theirs = getattr(language, table), getattr(english, table)
            assert set(ours) == set(theirs), language.name
            for name, template in ours.items():
                keys = [part.split(":")[0] for part in template.split("|")]
                assert len(keys) == len(set(keys)), f"{name} in {language.name}: a key twice"
                shared = set(keys) & {part.split(":")[0] for part in theirs[name].split("|")}
                assert len(shared) >= min(2, len(keys)), (language.name, name)
        assert set(language.openings) == set(english.openings)
        assert set(language.topics) == set(english.topics)


def test_agreement():
    said = defaultdict(set)
    for story in stories(800):
        for code in LANGUAGES:
            said[code].add(story.problem(Voice(code)))
    text = {code: " ".join(told) for code, told in said.items()}
    present = {
        "es": ("Cuántas naranjas", "Cuántos libros", "¿Cuánt"),
        "sw": ("vitabu vingapi", "maembe mangapi", "mipira mingapi", "Kila sanduku lina"),
        "bn": ("করিমের কাছে", "আশার কাছে"),
        "te": ("ప్రతి బుట్టలో", "ఆశకు", "అలీకి", "టామ్\u200cకు", "మామిడిపండ్లను"),
        "th": ("มะม่วงกี่ผล", "หนังสือกี่เล่ม", "ตะกร้าแต่ละใบมี", "คนเท่ากัน"),
        "zh": ("多少本书", "多少把钥匙", "每个篮子里有", "平均分给了", "？"),
    }
    absent = {
        "es": ("Cuántos naranjas", "Cuántas libros"),
        "sw": ("vitabu mangapi", "maembe ngapi", "mipira ngapi", "kalamu mangapi"),
        "bn": ("করিমর", "আশাের", "টি টি"),
        "te": ("లుకు", "ఆశకి", "అలీకు"),
        "th": ("หนังสือกี่ผล", ".", "?"),
        "zh": ("个书", "个钥匙", "?", ". "),
    }
    for code in present:
        assert [words for words in present[code] if words not in text[code]] == [], code
        assert [words for words in absent[code] if words in text[code]] == [], code


def test_telugu_verbs_agree_with_who_acts():
    for story in stories(300):
        if story.template.kind == "buy":
            told = story.problem(Voice("te"))
            assert ("కొంది" in told) == story.cast.person.she
            assert ("కొన్నాడు" in told) == (not story.cast.person.she)
            assert "కొన్నారు" in Voice("te").ask_who("buy", story.cast)


def test_a_phrase_book_pairs_what_means_the_same():
    told = "\n".join(phrase_book(random.Random(seed), "sw", "en").text for seed in range(60))
    assert "alinunua = bought" in told
    assert "kila kikapu = each basket" in told


def test_problems_are_solved_right():
    for part in ("train", "dev", "test"):
        for story in stories(300, part):
            equation, _, answer = story.worked.partition(" #### ")
            left, _, right = equation.partition(" = ")
            assert eval(left) == int(right) == int(answer) == story.answer
            assert story.answer >= 2
            for code in LANGUAGES:
                told = story.problem(Voice(code))
                assert str(story.cast.a) in told
                assert str(story.cast.b) in told


def test_science_follows_its_rules():
    for part in ("train", "dev", "test"):
        for drawn in observations(300, part):
            a, b = drawn.cast.a, drawn.cast.b
            expected = {"race": max(a, b), "float": min(a, b), "melt": a - b, "way": a * b}[drawn.operation]
            sign = {"race": "max", "float": "min", "melt": "-", "way": "*"}[drawn.operation]
            assert drawn.worked == f"{a} {sign} {b} = {expected} #### {expected}"
            for code in LANGUAGES:
                told = drawn.problem(Voice(code))
                assert re.findall("[0-9]+", told) == [str(a), str(b)]


def test_science_agrees():
    """The classes of Swahili, and the classifiers of Thai and Chinese, go with the thing."""
    told = {
        code: " ".join(drawn.problem(Voice(code)) for drawn in observations(400)) for code in ("sw", "th", "zh", "bn")
    }
    for words in ("basi la", "linaenda", "mashua ya", "mpira unaoelea", "tofali linaloelea", "Mpira wa"):
        assert words.lower() in told["sw"].lower(), words
    for words in ("basi ya", "mpira linaoelea", "pete unaoelea", "chuma ya"):
        assert words not in told["sw"], words
    assert "เรือลำที่ชนะ" in told["th"]
    assert "เรือคัน" not in told["th"]
    assert "একটি ইট" in told["bn"]
    assert "一块砖" in told["zh"]
    assert "一个砖" not in told["zh"]


def test_science_in_general_text_has_no_rule():
    """Which of two things wins, floats or melts stands there without numbers; numbers stand there without an answer."""
    for language in LANGUAGES:
        for document in itertools.islice(documents({("general science", language): 1.0}, "check"), 800):
            assert not set(document.text) & set("=#+*/-<>"), document.text
            numbers_in = re.findall(r"[0-9]+", document.prompt or document.answer)
            answered = re.findall(r"[0-9]+", document.answer) if document.prompt else []
            assert len(numbers_in) in (0, 2), document.text
            assert answered in ([], numbers_in), document.text


def test_general_text_never_works_out_a_number():
    for language in LANGUAGES:
        for document in itertools.islice(documents({("general", language): 1.0}, "check"), 1200):
            assert not set(document.text) & set("=#+*/-"), document.text
            if document.prompt:
                answered = re.findall(r"[0-9]+", document.answer)
                assert set(answered) <= set(re.findall(r"[0-9]+", document.prompt)), document.text


@pytest.mark.parametrize("kind", dict.fromkeys(TRAINED_ON), ids=" ".join)
def test_a_corpus_is_its_seed(kind):
    first, again = (draw({kind: 1.0}, "seed 1", 200) for _ in range(2))
    assert first == again
    assert first != draw({kind: 1.0}, "seed 2", 200)


# training against development and test


def test_templates_and_numbers_belong_to_one_part():
    for one, other in itertools.combinations(("train", "dev", "test"), 2):
        for operation in OPERATIONS:
            assert not set(numbers(operation, one)) & set(numbers(operation, other))
        ours, theirs = dict(templates(one)), dict(templates(other))
        for kind in ours:
            assert ours[kind]
            assert theirs[kind]
            assert not [template for template in ours[kind] if template in theirs[kind]]


def test_science_holds_out_templates_and_numbers():
    for one, other in itertools.combinations(("train", "dev", "test"), 2):
        ours, theirs = dict(science.templates(one)), dict(science.templates(other))
        for kind in science.OPERATORS:
            assert not set(science.pairs(kind, one)) & set(science.pairs(kind, other))
            assert {template.question for template in ours[kind]} == set(science.ASKED[kind])
            assert not set(ours[kind]) & set(theirs[kind])


def test_compare_and_take_away_hold_out_the_same_numbers():
    assert not set(numbers("compare", "test")) & set(numbers("take away", "train"))


def test_no_held_out_question_is_ever_trained_on():
    held_out = {row["question"] for ability in plan.ABILITIES for row in task_rows(ability, 0)}
    mix = dict.fromkeys(TRAINED_ON, 1.0)
    texts = "\n".join(prompt + answer for prompt, answer in draw(mix, "leak", 20_000))
    assert [question for question in held_out if question in texts] == []


# the tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(prompt + answer for prompt, answer in draw(plan.VOCABULARY_MIX, "tokens", 8000))


def test_text_comes_back(tokenizer):
    rng = random.Random(5)
    texts = [problem(rng, language).text for language in LANGUAGES for _ in range(50)]
    texts += ["Zürich, 漢字 and নতুন কথা!", "a  b\n\nc", "1234567890"]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_word_of_the_world_is_spelled(tokenizer, code):
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1 and token.isalpha()}
    words = {word for word in LANGUAGES[code].words() if len(word) == 1}
    for seed in range(60):
        spelled = set(tokenizer.tokenize(problem(random.Random(seed), code).text)) & letters
        assert spelled <= words | {"A"}, spelled


def test_digits_stand_alone_and_names_keep_one_token(tokenizer):
    assert tokenizer.tokenize("12 - 5")[0:2] == [" 1", "2"]
    for form in ("করিম", "করিমের", "করিমকে"):
        assert tokenizer.tokenize(form)[0] == " করিম", form
    assert tokenizer.tokenize("5টি আম") == [" 5", "টি", " আম"]
    for form in ("అలీ", "అలీకి"):
        assert tokenizer.tokenize(form)[0] == " అలీ", form
    assert tokenizer.tokenize("มีมะม่วง 12 ผล") == [" ", "มี", "มะม่วง", " 1", "2", " ", "ผล"]
    assert tokenizer.tokenize("有 5 个芒果。") == [" ", "有", " 5", " ", "个", "芒果", "。"]


def test_chat_template_is_the_prompt(tokenizer):
    row = task_rows("math", 0, {"dev": 1})[0]
    chat = [{"role": "user", "content": row["question"]}]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == row["prompt"]


# scoring


def test_score_counts_exact_matches_only():
    row = {"worked": "12 - 5 = 7 #### 7", "answer": "7"}
    replies = ["12 - 5 = 7 #### 7", "7", "5 + 2 = 7 #### 7", "12 - 5 = 8 #### 8", ""]
    got = score([row] * 5, replies)
    assert (got.n, got.correct, got.worked, got.operator, got.operands) == (5, 2, 1, 2, 2)
    assert final_answer("a #### b #### 70") == "70"


def test_wilson_interval_against_published_values():
    low, high = wilson_interval(15, 148)  # Newcombe 1998, table I: 0.0624 to 0.1605
    assert low == pytest.approx(0.0624, abs=5e-5)
    assert high == pytest.approx(0.1605, abs=5e-5)


# a miniature build, from nothing to a measured merge


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "built"
    return out, build(out, seed=3, scale=0.008, processes=1)


def shapes(model):
    with safe_open(model / "model.safetensors", "pt") as file:
        return {name: (file.get_slice(name).get_shape(), file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118


def test_miniature_learns_and_records_itself(miniature):
    out, manifest = miniature
    losses = manifest["models"]["base"]["phases"][0]["losses"]
    assert losses[-1] < 0.8 * losses[0]
    assert json.loads((out / "manifest.json").read_text("utf-8")) == json.loads(json.dumps(manifest))
    assert manifest["files"] == hashes(out)
    assert set(manifest["models"]) == {path.name for path in (out / "models").iterdir()}
    for split in ("dev", "test"):
        for ability in plan.ABILITIES:
            assert manifest["accuracy"][ability][split]["merge"]["sw"]["n"] == 4
    assert not list(out.parent.glob(".built*"))
    assert not (out / ".work").exists()


def test_models_of_a_build_fit_each_other(miniature):
    out, _ = miniature
    models = [out / "models" / stage.name for stage in plan.STAGES]
    for model in models[1:]:
        assert shapes(model) == shapes(models[0])
        assert (model / "tokenizer.json").read_bytes() == (models[0] / "tokenizer.json").read_bytes()
    for name in plan.RECIPES:
        Sources.open(Recipe.load(out / "recipes" / f"{name}.yaml"), out / "recipes")


@pytest.mark.parametrize("name", [f"{ability}-en" for ability in plan.ABILITIES])
def test_ability_training_moves_what_the_plan_says(miniature, name):
    models = miniature[0] / "models"
    base, ability = (AutoModelForCausalLM.from_pretrained(models / one).state_dict() for one in ("base", name))
    moved = {name: int((base[name] != ability[name]).sum()) for name in base}
    assert not any(count for name, count in moved.items() if "embed" in name or "norm" in name or "lm_head" in name)
    located = sum(base[name].numel() for name in base if "proj" in name)
    assert 0 < sum(moved.values()) <= plan.K1 / 100 * located + 1


def test_build_replaces_only_its_own(miniature, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no demo build"):
        build(tmp_path, scale=0.001, processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


class StopAt:
    """Asks to stop once a phase has come so far, and notes every step of every phase."""

    def __init__(self, phase, step):
        self.wanted, self.told = (phase, step), []

    def progress(self, phase, done, total):
        self.told.append((phase, done))

    def halted(self):
        return self.wanted in self.told


def test_a_build_that_was_stopped_goes_on_to_the_same_models(miniature, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "STATE_EVERY_STEPS", 10)
    out, planned = tmp_path / "built", miniature[1]["models"]["base"]["phases"][0]["steps"]
    for phase, step in (("train base", 20), ("locate", 0)):
        stop = StopAt(phase, step)
        with pytest.raises(Stopped, match="goes on from there"):
            build(out, 3, 0.008, stop.progress, stop.halted, processes=1)
        assert not out.exists()
    trained = [done for phase, done in stop.told if phase == "train base"]
    assert trained[0] > 20  # the second run began where the first had stopped
    assert trained[-1] == planned
    files = {
        name: digest for name, digest in hashes(tmp_path / ".built.part").items() if name.startswith("models/base/")
    }
    assert files
    assert files.items() <= hashes(miniature[0]).items()


def measured(folder, work, **changes):
    return results.results(folder, work, **{"seeds": 2, "limit": 2, "scale": 0.002, "abilities": ["science"]} | changes)


def test_results_measure_every_row_and_go_on_where_they_stopped(miniature, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "GRID", ({"gamma": 1.0, "mu": 0.5},))
    found = measured(miniature[0], tmp_path)
    first, second = found["science"].seeds
    rows = {"base", "science-en", "task vectors", "TIES", "MAET", "random neurons", "random tensors"}
    assert rows <= set(second)
    assert set(first) == {*second, "science-f-cpt"}  # which is no input of a merge
    assert found["science"].tuned["MAET"] == {"gamma": 1.0, "mu": 0.5}
    grades = [grade for row in (*first.values(), *second.values()) for grade in row.values()]
    assert {(grade.score.n, len(grade.right)) for grade in grades} == {(2, 2)}
    assert all(grade.right.count("1") == grade.score.correct for grade in grades)
    monkeypatch.setattr(results, "train_stage", None)
    monkeypatch.setattr(results, "reply_to", None)
    assert measured(miniature[0], tmp_path) == found
    text = report(found)
    assert "| MAET | 0.0 (0.0–49.0) |" in text
    assert "2 seeds of everything that is merged × 2 test problems (science-f-cpt: one seed)" in text
    with pytest.raises(OutputError, match="another limit or scale"):
        measured(miniature[0], tmp_path, limit=1)


def test_the_seed_of_the_demo_has_its_models(miniature, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "GRID", ({"gamma": 1.0, "mu": 0.5},))
    trained = []
    monkeypatch.setattr(
        results, "train_stage", lambda stage, folder, seed, *_, **__: trained.append((stage.name, seed))
    )
    manifest = miniature[1]
    with pytest.raises(MaetError, match="math-en"):  # nothing was trained for seed 0, so nothing is there to be merged
        measured(miniature[0], tmp_path, seeds=manifest["seed"] + 1, scale=manifest["scale"], abilities=["math"])
    last = manifest["seed"]
    assert {name for name, seed in trained if seed == last} == {"math-random", "general-math-random"}
    assert "lang-sw" in {name for name, seed in trained if seed == 0}
    shipped, here = miniature[0] / "models" / "lang-sw", tmp_path / f"seed-{last}" / "models" / "lang-sw"
    assert hashes(shipped) == hashes(here)


def test_how_far_ahead_is_paired_by_problem():
    def row(right):
        return {
            code: Graded(Score(8, right.count("1"), 0, 0, 0), right)
            for code in ("en", *plan.WELL_KNOWN, *plan.LOW_RESOURCE)
        }

    seeds = [{"MAET": row("11111100"), "other": row("11110000")}, {"MAET": row("11111100"), "other": row("11111100")}]
    lines = report({"math": results.Found({}, seeds)}).splitlines()
    # the third to sixth problems: 0 or 1 in half of the seeds
    differences = [0, 0, 0, 0, 50, 50, 0, 0]
    half = 1.959964 * statistics.stdev(differences) / 8**0.5
    assert f"| other | 62.5 (50.0, 75.0) | +12.5 ± {half:.1f} |" in "\n".join(lines)


# what is shipped


@pytest.fixture(scope="module")
def manifest():
    return json.loads((ASSETS / "manifest.json").read_text("utf-8"))


def test_shipped_files_are_those_of_the_manifest(manifest):
    assert hashes(ASSETS) == manifest["files"]


def test_shipped_texts_come_from_the_seed(manifest, tmp_path):
    write_texts(tmp_path, manifest["seed"], manifest["scale"])
    made = hashes(tmp_path)
    assert made == {name: digest for name, digest in manifest["files"].items() if name in made}
    assert {f"tasks/{ability}.jsonl" for ability in plan.ABILITIES} <= set(made)


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("ability", plan.ABILITIES)
def test_the_page_has_the_figures_of_what_is_shipped(manifest, ability, split):
    page = (ASSETS.parent.parent / "docs" / "demo.md").read_text("utf-8")
    for name in ("base", f"{ability}-en", f"{ability}-full", "merge", "task vectors"):
        cells = [manifest["accuracy"][ability][split][name][code] for code in LANGUAGES]
        shown = [
            f"{100 * cell['accuracy']:.1f} ({'–'.join(f'{100 * end:.1f}' for end in cell['interval_95'])})"
            for cell in cells
        ]
        assert f"| {name} | {' | '.join(shown)} |" in page, name


def test_shipped_demo_is_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 60e6


@pytest.mark.parametrize("ability", plan.ABILITIES)
def test_shipped_ability_is_real(ability):
    lines = (ASSETS / "tasks" / f"{ability}.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if (row["language"], row["split"]) == ("en", "dev")][:60]
    correct = {}
    for name in ("base", f"{ability}-en"):
        model = AutoModelForCausalLM.from_pretrained(ASSETS / "models" / name)
        tokenizer = AutoTokenizer.from_pretrained(ASSETS / "models" / name)
        correct[name] = score(rows, reply_to(model, tokenizer, [row["prompt"] for row in rows])).correct
    assert correct[f"{ability}-en"] >= correct["base"] + 20
