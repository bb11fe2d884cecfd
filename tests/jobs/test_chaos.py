"""A few random kills; `make chaos` does hundreds and writes docs/reliability.md."""

from chaos import Chaos
from kill_record import Record, load, page, save

from maet_core import jobs


def test_outputs_after_random_kills_are_those_of_an_undisturbed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAET_JOBS_CONFIG", str(tmp_path / "none.yaml"))
    record = Chaos(tmp_path, Record(seed=7, scale=1)).run(kills=3)
    assert record.wrong == []
    assert record.kills == 3
    assert all(kill.outcome in jobs.ENDED for one in record.rounds for kill in one.kills)
    save([record], tmp_path / "kept.json")
    assert load(tmp_path / "kept.json") == [record]
    assert "3 kills" in page([record])
