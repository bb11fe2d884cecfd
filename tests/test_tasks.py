"""Tasks in the layouts that people have them in."""

import json

import pandas as pd
import pytest

from maet_core.errors import InputError
from maet_core.evaluation.baselines import baseline_verdicts
from maet_core.evaluation.prompts import STYLES, Protocol, build_prompt, stop_texts
from maet_core.evaluation.questions import read_questions
from maet_core.evaluation.tasks import load_task

MGSM = {
    "sw": "Bata hutaga mayai 16. Anauza 2?\t18\nNyumba ya $80,000?\t70,000\n",
    "bn": "হাঁস 16টি ডিম পাড়ে?\t18\nবাড়ি $80,000?\t70,000\n",
}


@pytest.fixture
def mgsm(tmp_path):
    for language, text in MGSM.items():
        (tmp_path / f"mgsm_{language}.tsv").write_text(text, "utf-8")
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_mgsm_from_a_folder(mgsm):
    task = load_task(f"mgsm:{mgsm}")
    assert task.name == "mgsm"
    assert task.languages == ("bn", "sw")
    assert [(item.id, int(item.number)) for item in task.of("sw")] == [("0001", 18), ("0002", 70000)]
    assert [item.problem for item in task.of("sw")] == [item.problem for item in task.of("bn")]


def test_quotes_in_a_tsv_are_letters(tmp_path):
    path = tmp_path / "x_en.tsv"
    path.write_text('"Two" and "three?\t5\n', "utf-8")
    assert read_questions(path)[0].question == '"Two" and "three?'


def test_languages_and_limit(mgsm):
    task = load_task(f"mgsm:{mgsm}", ["sw"], limit=1)
    assert [(item.language, item.id) for item in task.items] == [("sw", "0001")]
    with pytest.raises(InputError, match="has no language te; there is bn, sw"):
        load_task(f"mgsm:{mgsm}", ["te"])


def test_gsm8k_and_msvamp_by_their_fields(tmp_path):
    gsm = load_task(
        f"gsm8k:{write(tmp_path / 'g.jsonl', [{'question': '1+1?', 'answer': '1 + 1 = 2' + chr(10) + '#### 2'}])}"
    )
    assert (gsm.items[0].answer, gsm.items[0].worked, gsm.languages) == ("2", "1 + 1 = 2\n#### 2", ("en",))
    write(tmp_path / "test_Swahili.json", [{"m_query": "Moja na moja?", "response": "2.0"}])
    found = load_task(f"msvamp:{tmp_path}")
    assert (found.languages, found.items[0].number) == (("sw",), 2)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and empty caches."""
    import datasets

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_mgsm_from_the_hub_s_cache(offline, mgsm):
    """As the hub's client lays a dataset out: a commit by its name, and the files of that commit."""
    commit, kept = "c" * 40, offline / "hub" / "datasets--juletxara--mgsm"
    (kept / "snapshots" / commit).mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    for language in MGSM:
        (mgsm / f"mgsm_{language}.tsv").rename(kept / "snapshots" / commit / f"mgsm_{language}.tsv")
    task = load_task("mgsm", ["sw", "bn"])
    assert [(item.language, int(item.number)) for item in task.items if item.id == "0002"] == [
        ("sw", 70000),
        ("bn", 70000),
    ]
    with pytest.raises(InputError, match=r"mgsm: .*cannot be had.*mgsm:FOLDER"):
        load_task("mgsm", ["te"])


def test_datasets_laid_out_as_on_the_hub(offline):
    """`datasets` takes a folder of the dataset's name for it: configurations in the card, splits as Parquet."""
    layouts = {
        "openai/gsm8k": ("main", {"question": "1+1?", "answer": "1 + 1 = 2\n#### 2"}),
        "Mathoctopus/MSVAMP": ("sw", {"m_query": "Moja na moja?", "response": 2.0}),
    }
    for name, (config, row) in layouts.items():
        (offline / name).mkdir(parents=True)
        pd.DataFrame([row]).to_parquet(offline / name / "test.parquet")
        files = f"configs:\n- config_name: {config}\n  data_files:\n  - split: test\n    path: test.parquet\n"
        (offline / name / "README.md").write_text(f"---\n{files}---\n")
    (item,) = load_task("gsm8k").items
    assert (item.language, item.answer, item.worked) == ("en", "2", "1 + 1 = 2\n#### 2")
    (item,) = load_task("msvamp", ["sw"]).items
    assert (item.language, item.question, item.number) == ("sw", "Moja na moja?", 2)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mgsm", r"mgsm: .*cannot be had from the hub.*cache no network.*mgsm:FOLDER"),
        ("msvamp", r"msvamp: .*cannot be had from the hub.*cache no network.*msvamp:FOLDER"),
        ("gsm8k", r"gsm8k: .*cannot be had from the hub.*cache no network.*gsm8k:FILE"),
    ],
)
def test_without_network_and_cache_it_says_what_to_do(offline, name, says):
    with pytest.raises(InputError, match=says) as caught:
        load_task(name)
    assert "\n" not in str(caught.value)


def test_demo_task_and_its_splits():
    task = load_task("demo-math", ["sw", "en"], limit=5)
    assert task.languages == ("sw", "en")
    assert {item.split for item in task.items} == {"test"}
    assert {item.split for item in task.pool} == {"dev"}
    assert task.has_prompts
    assert load_task("demo-math:dev", ["sw"], limit=2).name == "demo-math:dev"
    with pytest.raises(InputError, match="the demo has no such task"):
        load_task("demo-nothing")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "?", "choices": ["a", "b", "c"], "answer": 1},
        {"question": "?", "choices": ["a", "b", "c"], "answer": "B"},
        {"question": "?", "choices": ["a", "b", "c"], "answer": "b"},
        {"question": "?", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        {"question": "?", "A": "a", "B": "b", "C": "c", "answer": "B"},
        {"premise": "?", "choice1": "a", "choice2": "b", "label": 1},
        {"question": "?", "mc_answer1": "a", "mc_answer2": "b", "correct_answer_num": "2", "flores_passage": "P"},
    ],
)
def test_layouts_of_choices(tmp_path, row):
    item = read_questions(write(tmp_path / "c.jsonl", [row]))[0]
    assert (item.gold, item.answer) == (1, "b")
    assert item.question.endswith("?")


def test_tables_and_parquet(tmp_path):
    table = pd.DataFrame({"question": ["1+1?"], "answer": [2.0], "language": ["sw"]})
    for suffix, save in ((".csv", table.to_csv), (".parquet", table.to_parquet)):
        save(tmp_path / f"t{suffix}", index=False)
        item = read_questions(tmp_path / f"t{suffix}")[0]
        assert (item.language, item.question, int(item.number)) == ("sw", "1+1?", 2)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"question": "x"}\n', "line 1: no answer; expected a column"),
        ("a.jsonl", '{"answer": "x"}\n', "line 1: no question; expected a column"),
        ("a.jsonl", "nonsense\n", "line 1: not valid JSON"),
        ("a.jsonl", '{"question": "x", "choices": ["a", "b"], "answer": "z"}\n', "is none of the 2 choices"),
        ("a.jsonl", "", "holds no question"),
        ("a.tsv", "one\ttwo\tthree\tfour\n", "4 columns, expected question, answer"),
        ("a.tsv", "question\tanswer\n1\t2\t3\n", "line 2: 3 columns, expected 2"),
        ("a.jsonl", '{"question": "x", "answer": [1]}\n', "answer is list, expected text or a number"),
        ("a.txt", "x", "questions come as .jsonl"),
    ],
)
def test_bad_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_task(str(tmp_path / name))


def test_prompts_of_every_style(mgsm):
    item = load_task(f"mgsm:{mgsm}", ["sw"]).items[0]
    assert build_prompt(item, Protocol("direct")) == "Swali: Bata hutaga mayai 16. Anauza 2?\nAnswer:"
    assert build_prompt(item, Protocol("cot-en")).endswith("\nStep-by-Step Answer:")
    assert build_prompt(item, Protocol("cot-native")).endswith("\nJibu la Hatua kwa Hatua:")
    assert "Swali:" in stop_texts("sw", "direct")
    with pytest.raises(InputError, match="has none of its own"):
        build_prompt(item, Protocol("own"))
    with pytest.raises(InputError, match="expected own, direct"):
        Protocol("loud")


def test_exemplars_come_first_and_steps_need_them_worked():
    task = load_task("demo-math", ["sw"], limit=1)
    prompt = build_prompt(task.items[0], Protocol("own", shots=2), task.pool)
    assert prompt.count("Q:") == 3
    assert prompt.startswith(f"{task.pool[0].prompt} {task.pool[0].worked}\n\n")
    with pytest.raises(InputError, match="2 asked for, 0 exemplars there in sw"):
        build_prompt(task.items[0], Protocol("own", shots=2))


def test_the_protocol_says_everything():
    assert Protocol("direct").text() == "direct, 0-shot, greedy, at most 256 tokens, float32"
    assert "temperature 0.7, top-p 0.9, seed 3" in Protocol("cot-en", temperature=0.7, top_p=0.9, seed=3).text()
    assert len({Protocol(style).text() for style in STYLES}) == len(STYLES)


def test_baselines(tmp_path):
    rows = [
        {"question": "Ana ৬০ na 36?", "answer": "96"},
        {"question": "Ana 60, 36 na 24?", "answer": "24"},
        {"question": "Hakuna?", "answer": "1"},
    ]
    items = read_questions(write(tmp_path / "b.jsonl", rows))
    assert baseline_verdicts(items) == {"always add": [True, False, False], "copy a number": [False, True, False]}
    choices = [{"question": "?", "choices": ["a", "b"], "answer": gold} for gold in (0, 1, 1)]
    assert baseline_verdicts(read_questions(write(tmp_path / "c.jsonl", choices))) == {
        "most frequent choice": [False, True, True]
    }
    letters = [{"question": "? A: a B: b", "answer": letter} for letter in "ABB"]
    assert baseline_verdicts(read_questions(write(tmp_path / "l.jsonl", letters))) == {
        "most frequent choice": [False, True, True]
    }
