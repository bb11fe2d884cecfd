"""Settings for all tests: one thread, offline, and two Hypothesis profiles.

`HYPOTHESIS_PROFILE=thorough pytest tests/test_oracle.py` looks at many more random recipes than the default.
"""

import os
import signal
from dataclasses import dataclass

# Before torch and the hub client are imported: tests need neither network nor more than one core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis
import pytest
import torch
import transformers
from models import Family, make_family

from maet_core import remembered

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

_QUIET = list(hypothesis.HealthCheck)
hypothesis.settings.register_profile(
    "default", max_examples=60, derandomize=True, deadline=None, suppress_health_check=_QUIET, database=None
)
hypothesis.settings.register_profile(
    "thorough", max_examples=2000, deadline=None, suppress_health_check=_QUIET, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config):
    # Other projects' deprecations, met only because the tests import them as peers.
    config.addinivalue_line("filterwarnings", "ignore:numpy.core is deprecated:DeprecationWarning:mergekit")
    config.addinivalue_line("filterwarnings", "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    """Identity hashes are cached by file; the tests' cache is their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    """What was computed about files is remembered once they are two seconds old: whether a test computes it, or finds what was left
    before, would depend on the machine's speed. In other processes it still does."""
    monkeypatch.setattr(remembered, "_SETTLED_NANOSECONDS", 1 << 62)


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Family:
    """Read-only: a tied GQA Llama in bfloat16 and four models trained from it."""
    return make_family(tmp_path_factory.mktemp("llama"), "llama", dtype="bfloat16", seed=1, tie_word_embeddings=True)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory) -> Family:
    """Read-only: a GPT-2 (transposed matrices, fused attention) in float32."""
    return make_family(tmp_path_factory.mktemp("gpt2"), "gpt2", dtype="float32", seed=2)


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def maet(capfd, monkeypatch):
    """`maet("merge", recipe, "-o", output)`: the command line in this process."""
    from maet_core.cli import main

    monkeypatch.delenv("MAET_PROGRESS", raising=False)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ending:
                main([str(argument) for argument in arguments])
        finally:
            signal.signal(signal.SIGTERM, handler)
        return Outcome(ending.value.code, *capfd.readouterr())

    return run
