"""What a public demonstration allows."""

from dataclasses import fields

import pytest
from page_tools import no_complaint, widget

from maet_core.studio import limits


def test_one_s_own_machine_allows_more_than_a_demonstration(monkeypatch):
    monkeypatch.delenv("MAET_DEMO", raising=False)
    own = limits.current()
    monkeypatch.setenv("MAET_DEMO", "1")
    shown = limits.current()
    assert (own.demo, shown.demo) == (False, True)
    for field in (field.name for field in fields(own) if field.name != "demo"):
        assert getattr(shown, field) < getattr(own, field)


def test_the_third_person_is_told_to_come_again_and_a_place_becomes_free(monkeypatch):
    monkeypatch.setenv("MAET_DEMO", "1")
    with limits.a_place():
        with limits.a_place(), pytest.raises(limits.Busy, match="in a moment"), limits.a_place():
            pass
        with limits.a_place():
            pass
    with pytest.raises(ValueError, match="inside"), limits.a_place():
        raise ValueError("inside")
    with limits.a_place(), limits.a_place():
        pass


def test_a_demonstration_saves_nothing_and_says_so(app, workspace, monkeypatch):
    monkeypatch.setenv("MAET_DEMO", "1")
    test = app("merge")
    assert any("nothing is saved" in caption.value for caption in test.sidebar.caption)
    next(one for one in test.text_input if one.key == "merge-recipe-name").set_value("mine")
    next(one for one in test.button if one.key == "merge-save-recipe").click()
    test.run()
    assert any("nothing is written" in warning.value for warning in test.warning)
    assert not (workspace / "recipes" / "mine.yaml").exists()


def test_a_link_cannot_ask_a_demonstration_for_more_than_it_offers(app, monkeypatch):
    monkeypatch.setenv("MAET_DEMO", "1")
    test = app("merge", grid="[0.0, 2.0, 9, 0.0, 2.0, 9]")
    no_complaint(test)
    assert [widget(test.number_input, f"merge-grid-{i}").max for i in (2, 5)] == [3, 3]
    assert any(button.label == "Fill in 9 cells" for button in test.button)
    test = app("neurons", look='"knock"', losses="200")
    no_complaint(test)
    assert widget(test.selectbox, "neurons-loss-count").options == ["12", "24", "60"]
    assert widget(test.selectbox, "neurons-loss-count").value == 24
