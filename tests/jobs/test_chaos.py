"""A few random kills; `make chaos` does hundreds and writes docs/reliability.md."""

from chaos import Chaos, Tally


def test_outputs_after_random_kills_are_those_of_an_undisturbed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAET_JOBS_CONFIG", str(tmp_path / "none.yaml"))
    tally = Chaos(tmp_path, Tally(seed=7)).run(kills=3)
    assert tally.wrong == []
    assert sum(tally.kills.values()) >= 3
    assert sum(tally.outputs.values()) >= 1
