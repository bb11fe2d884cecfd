"""Work that several pages wait for: what they are told, and when it halts."""

import threading

import pytest
import streamlit as st
from page_tools import html_text, no_complaint, recipe_of, slide

from maet_core.errors import Cancelled, InputError
from maet_core.studio import in_memory, waiting

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
    task = waiting.Task(work, goes_on=True)
    while task.told != ("waiting", 1, 2):
        assert not task.wait(0.01)
    opened.set()
    assert task.wait(LONG)
    assert task.result() == "done"
    assert not task.has_failed


def test_a_halted_task_ends_and_is_not_used_again(door):
    task = waiting.Task(door[0], goes_on=True)
    task.halt()
    assert task.wait(LONG)
    assert task.has_failed
    with pytest.raises(Cancelled):
        task.result()


def test_an_error_reaches_every_page_that_waits():
    def work(progress):
        raise InputError("no such file")

    task = waiting.Task(work, goes_on=True)
    for _ in range(2):
        with pytest.raises(InputError, match="no such file"):
            task.result()


def test_what_a_page_left_while_it_was_made_is_there_for_the_next(door):
    st.cache_resource.clear()
    work, opened = door
    task = waiting._tasks()["model", 1] = waiting.Task(work, goes_on=True)
    opened.set()
    assert task.wait(LONG)
    assert waiting.shared("model", 1, lambda progress: "made again", "Opening") == "done"
    assert waiting.known("model", 1) == "done"
    assert not waiting._tasks()


def test_of_a_key_only_the_newest_are_kept():
    st.cache_resource.clear()
    for number in range(3):
        waiting.shared("model", number, lambda progress, number=number: number + 10, "Opening", most=1)
    assert [waiting.known("model", number) for number in range(3)] == [None, None, 12]


def test_the_weights_of_a_large_model_move_before_the_answer(app, monkeypatch):
    monkeypatch.setattr(in_memory, "QUICK_PARAMETERS", 0)
    test = app("merge")
    slide(test, "merge-eta", 0.5)
    no_complaint(test)
    assert in_memory.live(recipe_of(test)).recipe == recipe_of(test)
    assert "tokens" in html_text(test)
