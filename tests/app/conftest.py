"""The app in Streamlit's own test harness, each test in a copy of one tiny workspace."""

import shutil
from pathlib import Path

import pytest
import streamlit as st
from small_workspace import build_workspace
from streamlit.testing.v1 import AppTest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def small_workspace(tmp_path_factory) -> Path:
    return build_workspace(tmp_path_factory.mktemp("small") / "workspace")


@pytest.fixture
def workspace(small_workspace, tmp_path, monkeypatch) -> Path:
    path = tmp_path / "workspace"
    shutil.copytree(small_workspace, path)
    monkeypatch.setenv("MAET_WORKSPACE", str(path))
    return path


@pytest.fixture
def app(workspace):
    """app(page, **query) runs the app on a page, as if that link had been opened."""
    st.cache_resource.clear()

    def run(page: str = "start", **query: str) -> AppTest:
        test = AppTest.from_file(str(PROJECT / "app.py"), default_timeout=60)
        for key, value in query.items():
            test.query_params[key.replace("__", ".")] = value
        test.switch_page(f"pages/{page}.py")
        return test.run()

    return run
