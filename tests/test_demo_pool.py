"""Work of a demo build in several processes. Few imports: each process has them too."""

import math

import pytest

from maet_core.demo.pool import workers
from maet_core.errors import Cancelled


def test_work_in_other_processes_comes_back_in_order_and_stops():
    with workers(2) as pool:
        jobs = [pool.submit(_wait_or_say, said, None) for said in ("a", "b", "c")]
        assert pool.join(jobs, "say", None, None) == ["a", "b", "c"]
        endless = pool.submit(_wait_or_say, "stopped", math.inf)
        with pytest.raises(Cancelled):
            pool.join([endless], "wait", None, lambda: True)
    assert endless.result() == "stopped"


def _wait_or_say(said, steps, halted=None):
    waited = 0
    while steps and waited < steps and not halted():
        waited += 1
    return said
