"""A merge in the background: progress, the end, errors, and Stop."""

import os
import sys
import time

import pytest
import streamlit as st

from maet_core.errors import WorkspaceError
from maet_core.studio import resources, saving

SLOW = """\
import sys, time
print("progress 3 12 merging", file=sys.stderr, flush=True)
time.sleep(120)
"""


@pytest.fixture(autouse=True)
def fresh(workspace):
    st.cache_resource.clear()
    yield
    for save in saving.current():
        if save.running:
            save.process.kill()
            save.process.wait()
    st.cache_resource.clear()


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """The command becomes one that tells its progress once and goes on for minutes."""
    script = tmp_path / "slow"
    script.write_text(f"#!{sys.executable}\n{SLOW}")
    script.chmod(0o755)
    monkeypatch.setattr(saving.sys, "executable", str(script))


def wait_until(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_a_merge_ends_with_its_report(workspace):
    recipe = resources.workspace().load_recipe("demo")
    save = saving.start(recipe, "new")
    wait_until(lambda: not save.running)
    assert save.process.returncode == 0, save.log()
    assert save.progress()[0] == 1.0
    assert save.result()["tensors_changed"] > 0
    assert (workspace / "models" / "new" / "model.safetensors").is_file()


def test_an_error_is_told_in_one_line(workspace):
    recipe = resources.workspace().load_recipe("demo")
    (workspace / "models" / "lang-bn" / "model.safetensors").unlink()
    save = saving.start(recipe, "new")
    wait_until(lambda: not save.running)
    assert save.process.returncode == 2
    assert "lang-bn" in save.error()
    assert not (workspace / "models" / "new").exists()


def test_stop_ends_it_and_the_page_says_so(app, slow):
    test = app("merge")
    test.button(key="merge-save").click().run()
    save = saving.current()[0]
    wait_until(lambda: save.progress() == (0.25, "merging"))
    test.run()
    assert test.button(key="merge-save").disabled
    assert save.running
    test.button(key="merge-stop").click().run()
    assert not save.running
    assert any("Stopped" in element.value for element in test.info)
    assert not test.button(key="merge-save").disabled


def test_one_merge_at_a_time(slow):
    recipe = resources.workspace().load_recipe("demo")
    saving.start(recipe, "first")
    with pytest.raises(WorkspaceError, match="another merge"):
        saving.start(recipe, "second")


def test_nothing_in_the_workspace_is_run(workspace):
    trap = workspace / "torch.py"
    trap.write_text("open('trapped', 'w')")
    save = saving.start(resources.workspace().load_recipe("demo"), "new")
    wait_until(lambda: not save.running)
    assert save.process.returncode == 0, save.log()
    assert not os.path.exists(workspace / "trapped")
