"""The demo world: its texts, the line between training and test, a miniature build, and the models that are shipped."""

import itertools
import json
import random
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from maet_core.demo import plan
from maet_core.demo.build import build, draw, hashes, write_texts
from maet_core.demo.corpora import documents, problem
from maet_core.demo.lexicon import LANGUAGES
from maet_core.demo.measure import final_answer, reply_to, score, wilson_interval
from maet_core.demo.sentences import QUESTIONS, SENTENCES, Voice, forms
from maet_core.demo.stories import OPERATIONS, draw_story, numbers, templates
from maet_core.demo.tasks import math_rows
from maet_core.demo.tokens import build_tokenizer
from maet_core.errors import OutputError
from maet_core.recipe import Recipe
from maet_core.sources import Sources

ASSETS = Path(__file__).parent.parent / "assets" / "demo"
TRAINED_ON = [kind for stage in plan.STAGES for kind in stage.mix]


def stories(count, part="train", seed=0):
    rng = random.Random(seed)
    return [draw_story(rng, part) for _ in range(count)]


# texts


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_can_be_said(language):
    for story in stories(40):
        slots = forms(story.cast, language)
        for name, versions in (SENTENCES | QUESTIONS).items():
            text = versions[language].format_map(slots)
            assert text == unicodedata.normalize("NFC", text), name
            assert "{" not in text, name


def test_phrases_of_one_key_exist_in_english():
    """Code-switching pairs phrases by key, so a key that only one language has would never be switched."""
    for name, versions in (SENTENCES | QUESTIONS).items():
        english = {part.split(":")[0] for part in versions["en"].split("|")}
        for language, version in versions.items():
            keys = [part.split(":")[0] for part in version.split("|")]
            assert len(keys) == len(set(keys)), f"{name} in {language}: a key twice"
            assert len(set(keys) & english) >= 2, f"{name} in {language}"


def test_agreement():
    said = defaultdict(set)
    for story in stories(800):
        for language in LANGUAGES:
            said[language].add(story.problem(Voice(language)))
    swahili, bengali, spanish = (" ".join(said[language]) for language in ("sw", "bn", "es"))
    assert "vitabu vingapi" in swahili
    assert "maembe mangapi" in swahili
    assert "mipira mingapi" in swahili
    assert not any(wrong in swahili for wrong in ("vitabu mangapi", "maembe ngapi", "mipira ngapi", "kalamu mangapi"))
    assert "Kila sanduku lina" in swahili
    assert "করিমের কাছে" in bengali
    assert "আশার কাছে" in bengali
    assert not any(wrong in bengali for wrong in ("করিমর", "আশাের", "টি টি"))
    assert "Cuántas naranjas" in spanish
    assert "Cuántos libros" in spanish
    assert not any(wrong in spanish for wrong in ("Cuántos naranjas", "Cuántas libros"))


def test_problems_are_solved_right():
    for part in ("train", "dev", "test"):
        for story in stories(300, part):
            equation, _, answer = story.worked.partition(" #### ")
            left, _, right = equation.partition(" = ")
            assert eval(left) == int(right) == int(answer) == story.answer
            assert story.answer >= 2
            for language in LANGUAGES:
                told = story.problem(Voice(language))
                assert str(story.cast.a) in told
                assert str(story.cast.b) in told


def test_general_text_never_works_out_a_number():
    for language in LANGUAGES:
        for document in itertools.islice(documents({("general", language): 1.0}, "check"), 2000):
            assert not set(document.text) & set("=#+*/"), document.text
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


def test_compare_and_take_away_hold_out_the_same_numbers():
    assert not set(numbers("compare", "test")) & set(numbers("take away", "train"))


def test_no_held_out_question_is_ever_trained_on():
    held_out = {row["question"] for row in math_rows(0)}
    mix = dict.fromkeys(TRAINED_ON, 1.0)
    texts = "\n".join(prompt + answer for prompt, answer in draw(mix, "leak", 20_000))
    assert [question for question in held_out if question in texts] == []


# the tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(prompt + answer for prompt, answer in draw(plan.VOCABULARY_MIX, "tokens", 4000))


def test_text_comes_back(tokenizer):
    rng = random.Random(5)
    texts = [problem(rng, language).text for language in LANGUAGES for _ in range(50)]
    texts += ["Zürich, 漢字 and নতুন কথা!", "a  b\n\nc", "1234567890"]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_digits_stand_alone_and_bengali_names_keep_one_token(tokenizer):
    assert tokenizer.tokenize("12 - 5")[0:2] == [" 1", "2"]
    for form in ("করিম", "করিমের", "করিমকে"):
        assert tokenizer.tokenize(form)[0] == " করিম", form
    assert tokenizer.tokenize("5টি আম") == [" 5", "টি", " আম"]


def test_chat_template_is_the_prompt(tokenizer):
    row = math_rows(0, {"dev": 1})[0]
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
    return out, build(out, seed=3, scale=0.008)


def shapes(model):
    with safe_open(model / "model.safetensors", "pt") as file:
        return {name: (file.get_slice(name).get_shape(), file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118


def test_miniature_learns_and_records_itself(miniature):
    out, manifest = miniature
    losses = manifest["models"]["base"]["losses"]
    assert losses[-1] < 0.8 * losses[0]
    assert json.loads((out / "manifest.json").read_text("utf-8")) == json.loads(json.dumps(manifest))
    assert manifest["files"] == hashes(out)
    assert set(manifest["models"]) == {path.name for path in (out / "models").iterdir()}
    for split in ("dev", "test"):
        assert manifest["accuracy"][split]["merge"]["sw"]["n"] == 8
    assert not list(out.parent.glob(".built*"))


def test_models_of_a_build_fit_each_other(miniature):
    out, _ = miniature
    models = [out / "models" / stage.name for stage in plan.STAGES]
    for model in models[1:]:
        assert shapes(model) == shapes(models[0])
        assert (model / "tokenizer.json").read_bytes() == (models[0] / "tokenizer.json").read_bytes()
    Sources.open(Recipe.load(out / "recipes" / "demo.yaml"), out / "recipes")


def test_ability_training_moves_what_the_plan_says(miniature):
    models = miniature[0] / "models"
    base, ability = (AutoModelForCausalLM.from_pretrained(models / name).state_dict() for name in ("base", "math-en"))
    moved = {name for name in base if not torch.equal(base[name], ability[name])}
    assert moved
    assert not any("embed" in name or "norm" in name for name in moved)


def test_build_replaces_only_its_own(miniature, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no demo build"):
        build(tmp_path, scale=0.001)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


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
    assert "tasks/math.jsonl" in made


def test_shipped_demo_is_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 25e6


def test_shipped_ability_is_real():
    lines = (ASSETS / "tasks" / "math.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if (row["language"], row["split"]) == ("en", "dev")][:60]
    correct = {}
    for name in ("base", "math-en"):
        model = AutoModelForCausalLM.from_pretrained(ASSETS / "models" / name)
        tokenizer = AutoTokenizer.from_pretrained(ASSETS / "models" / name)
        correct[name] = score(rows, reply_to(model, tokenizer, [row["prompt"] for row in rows])).correct
    assert correct["math-en"] >= correct["base"] + 20
