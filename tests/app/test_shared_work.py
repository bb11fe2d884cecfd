"""Work that several pages wait for: what they are told, and when it halts."""

import threading
import weakref
from functools import partial
from pathlib import Path

import pytest
import streamlit as st
from page_tools import html_text, no_complaint, recipe_of, slide

from maet_core.errors import Cancelled, InputError
from maet_core.studio import in_memory, scores, shared_work, waiting

LONG = 60


@pytest.fixture
def door():
    """Work that tells where it is and ends when the door is opened."""
    opened = threading.Event()

    def work(progress):
        while not opened.wait(0.01):
            progress("waiting", 1, 2)
        return "done"

    yield work, opened
    opened.set()


def test_a_task_tells_where_it_is_and_gives_its_result(door):
    work, opened = door
    task = shared_work.Task(work, goes_on=True)
    while task.told != ("waiting", 1, 2):
        assert not task.wait(0.01)
    opened.set()
    assert task.wait(LONG)
    assert task.result() == "done"
    assert not task.has_failed


def test_a_halted_task_ends_and_is_not_used_again(door):
    task = shared_work.Task(door[0], goes_on=True)
    task.halt()
    assert task.wait(LONG)
    assert task.has_failed
    with pytest.raises(Cancelled):
        task.result()


def test_an_error_reaches_every_page_that_waits():
    def work(progress):
        raise InputError("no such file")

    task = shared_work.Task(work, goes_on=True)
    for _ in range(2):
        with pytest.raises(InputError, match="no such file"):
            task.result()


def test_what_a_page_left_while_it_was_made_is_there_for_the_next(door):
    st.cache_resource.clear()
    work, opened = door
    task = shared_work.running_tasks()["model", 1] = shared_work.Task(work, goes_on=True)
    opened.set()
    assert task.wait(LONG)
    assert waiting.shared("model", 1, lambda progress: "made again", "Opening") == "done"
    assert shared_work.known("model", 1) == "done"
    assert not shared_work.running_tasks()


def test_of_a_key_only_the_newest_are_kept():
    st.cache_resource.clear()
    for number in range(3):
        waiting.shared("model", number, lambda progress, number=number: number + 10, "Opening", most=1)
    assert [shared_work.known("model", number) for number in range(3)] == [None, None, 12]


def test_what_halts_is_let_go_whether_it_hears_of_it_or_not(door):
    """Without waiting for a garbage collection: a model takes gigabytes."""
    st.cache_resource.clear()
    _, opened = door
    alive = []

    def work(progress, listens):
        model = set()  # of the things that can be referred to weakly
        alive.append(weakref.ref(model))
        while not opened.wait(0.01):
            if listens:
                progress("opening", 0, 1)
        return model

    begun = [shared_work.begin("model", listens, partial(work, listens=listens), 4) for listens in (True, False)]
    while len(alive) < 2:
        assert not begun[1].wait(0.01)
    for task in begun:
        task.halt()
    assert begun[0].wait(LONG)
    opened.set()
    assert begun[1].wait(LONG)
    for thread in [thread for thread in threading.enumerate() if thread.name == "shared-work"]:
        thread.join(LONG)
    assert [reference() for reference in alive] == [None, None]
    assert not shared_work.running_tasks()
    assert not shared_work.kept_results()


def test_what_nobody_waits_for_is_kept_like_the_rest_and_makes_room_for_what_is_wanted(door):
    st.cache_resource.clear()
    work, opened = door
    left = [shared_work.begin("model", number, work, 2) for number in range(2)]
    assert waiting.shared("model", 2, lambda progress: "wanted", "Opening", most=2) == "wanted"
    assert left[0].wait(LONG)
    assert left[0].has_failed
    opened.set()
    assert left[1].wait(LONG)
    while shared_work.running_tasks():
        threading.Event().wait(0.01)
    assert [shared_work.known("model", number) for number in range(3)] == [None, "done", "wanted"]


def test_all_that_may_take_long_on_neurons_has_a_bar_and_a_stop(app, workspace, monkeypatch):
    monkeypatch.setattr(scores, "QUICK_SCORES", 0)
    begun, original = set(), shared_work.begin
    monkeypatch.setattr(shared_work, "begin", lambda key, *rest: begun.add(key) or original(key, *rest))
    (workspace / "corpora").mkdir(exist_ok=True)
    (workspace / "corpora" / "sw.txt").write_text("maembe matatu\n\nmaembe manne\n")
    no_complaint(app("neurons", cell='["down_proj", "1"]', unit="[3, -1]", texts='"corpus:sw.txt"', look='"knock"'))
    assert begun >= {
        "models",
        "opened",
        "neurons-scores",
        "neurons-ranked",
        "neurons-sums",
        "neurons-cells",
        "neurons-units",
        "tokens",
        "corpus",
    }
    folders = (Path(waiting.__file__).parent, Path(waiting.__file__).parents[2] / "pages")
    sources = [path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py")]
    assert not any('show_spinner="' in source for source in sources)  # which shows no progress and cannot be stopped


def test_the_weights_of_a_large_model_move_before_the_answer(app, monkeypatch):
    monkeypatch.setattr(in_memory, "QUICK_PARAMETERS", 0)
    test = app("merge")
    slide(test, "merge-eta", 0.5)
    no_complaint(test)
    assert in_memory.live(recipe_of(test)).recipe == recipe_of(test)
    assert "tokens" in html_text(test)
