"""What a public demonstration allows."""

import pytest

from maet_core.studio import limits


def test_one_s_own_machine_allows_more_than_a_demonstration(monkeypatch):
    monkeypatch.delenv("MAET_DEMO", raising=False)
    own = limits.current()
    monkeypatch.setenv("MAET_DEMO", "1")
    shown = limits.current()
    assert (own.demo, shown.demo) == (False, True)
    for field in ("max_new_tokens", "question_characters", "models_at_once", "people_at_once"):
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
