"""What long work leaves behind for whoever watches it."""

import json

from maet_core.progress import record


def test_figures_are_appended_one_json_object_a_line(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("MAET_METRICS", str(path))
    record(step=1, loss=2.5)
    record(step=2, loss=2.25, phase="ก")
    first, second = map(json.loads, path.read_text("utf-8").splitlines())
    assert {name: first[name] for name in ("step", "loss")} == {"step": 1, "loss": 2.5}
    assert second["phase"] == "ก"
    assert second["time"] >= first["time"] > 1.7e9


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("MAET_METRICS", raising=False)
    monkeypatch.chdir(tmp_path)
    record(step=1)
    assert list(tmp_path.iterdir()) == []
