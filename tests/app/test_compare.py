"""Compare: many questions, votes, and what can be taken along."""

import csv
import io
import json
import re

import pytest
from page_tools import html_text, no_complaint, widget

from maet_core.conversation import Answer, Decoding
from maet_core.evaluation import is_right
from maet_core.evaluation.questions import Question
from maet_core.studio import answers, blind, exports, files, slots
from maet_core.studio.filling import Filling
from maet_core.studio.slots import Slot

QUESTION = Question("q-1", "sw", "Ngapi?", "Q: Ngapi?\nA:", answer="6", gloss="How many?")


def button(app, key: str):
    return app.button(key=key)


def test_every_kind_of_model_can_stand_side_by_side(app):
    test = app("compare", models='["base", "languages", "task-vector", "merged"]', length="5")
    button(test, "compare-ask").click().run()
    no_complaint(test)
    said = test.session_state["_answers"]["compare"]["answers"]
    assert {label: answer.tokens for label, answer in said.items()} == dict.fromkeys(
        ("Base", "Languages only", "Task vectors", "Merged"), 5
    )


def test_many_questions_are_asked_of_all_and_the_wrong_ones_come_first(app):
    test = app("compare", mode='"many"', models='["base", "merged"]', language='"sw"', length="4")
    assert widget(test.number_input, "compare-many-count").value == 3
    assert widget(test.number_input, "compare-number").label == "From number (of 3)"
    widget(test.number_input, "compare-many-count").set_value(2).run()
    button(test, "compare-many-go").click().run()
    no_complaint(test)
    work = test.session_state["_fillings"]["compare-many"]
    assert html_text(test).count("data-of='Merged'") == 2  # on a phone there is no head to say whose answer it is
    assert len(work.answers) == 4
    assert not work.running
    assert html_text(test).count("<th scope='row' ") == 2
    widget(test.number_input, "compare-many-count").set_value(3).run()
    assert "Go on (2 left)" in [one.label for one in test.button]
    button(test, "compare-many-clear").click().run()
    assert work.answers == {}


def test_questions_are_about_the_recipe_s_ability(app, workspace):
    rows = [
        {"id": f"science-{n}-sw", "language": "sw", "question": f"Nini? {n} A: a B: b", "answer": "B"} for n in "12"
    ]
    (workspace / "tasks" / "science.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    demo = (workspace / "recipes" / "demo.yaml").read_text()
    (workspace / "recipes" / "other.yaml").write_text(demo.replace("  math:", "  science:"))
    test = app("compare", recipe="other", language='"sw"')
    no_complaint(test)
    assert "Nini? 1" in html_text(test)
    assert widget(test.number_input, "compare-number").label == "Number (of 2)"
    widget(test.segmented_control, "compare-task").select("math").run()
    assert widget(test.number_input, "compare-number").label == "Number (of 3)"
    assert "Asha ana maembe" in html_text(test)


def test_stop_keeps_whole_answers_and_drops_the_one_that_was_cut(app):
    work = Filling("signature")
    assert work.take("a", Answer("m", "x", finished="end"))
    assert not work.take("b", Answer("m", "x"))
    assert not work.take("c", Answer("m", "x", finished="stopped"))
    assert list(work.answers) == ["a"]


def test_a_vote_is_blind_and_kept_in_the_workspace(app, workspace):
    test = app("compare", mode='"blind"', models='["base", "merged"]', language='"sw"', length="4")
    assert button(test, "blind-A").disabled
    button(test, "compare-ask").click().run()
    no_complaint(test)
    said = html_text(test)
    assert "Answer A" in said
    assert "<b>Base</b>" not in said
    assert "class='speed'" not in said
    assert not re.search("right'|wrong'|[✓✗]", said)  # every answer here is wrong, and nobody may know it yet
    assert all("models/base" not in code.value for code in test.code)
    button(test, "blind-B").click().run()
    no_complaint(test)
    assert html_text(test).count("✗ wrong") == 2
    (row,) = map(json.loads, (workspace / "notebook" / "votes.jsonl").read_text().splitlines())
    assert (row["vote"], row["best"]) == ("best", row["models"][1]["model"])
    assert "<b>Base</b>" in html_text(test)
    button(test, "blind-next").click().run()
    assert "Answer A" in html_text(test)
    button(test, "blind-equal").click().run()
    counted = blind.tally(blind.notebook().rows()).set_index("model")
    assert counted["votes"].tolist() == [2, 2]
    assert counted.loc[row["best"], "best"] == 1


def test_a_look_at_the_other_mode_does_not_lift_the_veil(app):
    test = app("compare", mode='"blind"', models='["base", "merged"]', language='"sw"', length="4")
    button(test, "compare-ask").click().run()
    widget(test.segmented_control, "compare-mode").set_value("one").run()
    no_complaint(test)
    assert html_text(test).count("Not asked yet") == 2


def test_what_a_veiled_model_could_not_do_is_not_told_by_its_name(app, monkeypatch):
    monkeypatch.setattr(
        answers, "said", lambda slots, *_: (Answer(slot.label, finished="error", error="Merged: no") for slot in slots)
    )
    test = app("compare", mode='"blind"', models='["base", "merged"]', language='"sw"', length="4")
    button(test, "compare-ask").click().run()
    assert {error.value for error in test.error} == {"This model could not answer."}


def test_the_tally_has_wilson_s_interval():
    votes = [{"models": [{"model": "a"}, {"model": "b"}], "best": "a"}] * 15 + [
        {"models": [{"model": "a"}], "best": None}
    ] * 133
    table = blind.tally(votes).set_index("model")
    assert table.loc["a", "95 % interval"] == "6–16 %"  # Newcombe 1998, table I: 15 of 148
    assert table.loc["b", "votes"] == 15


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "plain", "মোট, 6"])
def test_exports_hold_everything_and_no_formula(text):
    slot = Slot("Base", "", "models/base", lambda: None)
    row = exports.record(slot, QUESTION, Decoding(max_new_tokens=7), Answer("Base", text, 3, 0.5, "end"))
    again = json.loads(files.jsonl_text([row]))
    assert again["answer"] == text
    assert again["decoding"]["max_new_tokens"] == 7
    assert again["right"] is is_right(text, "6")
    (cells,) = csv.DictReader(io.StringIO(exports.to_csv([row])))
    assert cells["answer"] == (text if text[0] not in "=+-@" else f"'{text}")


def test_headings_differ():
    merged = Slot("Merged", "", "models/merged", lambda: None)
    assert [slot.label for slot in slots.distinct([merged, merged, merged])] == ["Merged", "Merged (2)", "Merged (3)"]


def test_the_final_answer_is_marked_and_escaped():
    assert answers.marked("13 - 7 = 6 #### 6", True) == "13 - 7 = 6 <b class='maet-final right'>6</b>"
    assert answers.marked("<b> #### <i>", False) == "&lt;b&gt; <b class='maet-final wrong'>&lt;i&gt;</b>"
    assert answers.marked("####", None) == "####"
