# Two commands matter: `make app` and `make test`. Both set everything up first; a second set-up takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.PHONY: help app test lint setup browser test-fast test-card test-slurm slurm chaos figures demo screenshots clean

help:
	@echo "make app          set up, then open MAET Studio on the demo models"
	@echo "make test         set up, then run every test, the ones in a real browser included"
	@echo "make test-fast    the tests without a browser"
	@echo "make test-card    the tests of what a CUDA card computes"
	@echo "make test-slurm   jobs on a real Slurm, which is installed first (Debian, root)"
	@echo "make chaos        300 random kills over jobs; writes docs/reliability.md as it goes, and goes on where it was stopped (about an hour)"
	@echo "make figures      measure docs/evaluation-figures.md again on the demo models (about twenty minutes)"
	@echo "make lint         format and rules (ruff)"
	@echo "make demo         generate the demo corpora and train the demo models again (about an hour)"
	@echo "make screenshots  take the README's pictures again"

setup: $(STAMP)

$(STAMP): requirements.txt requirements-dev.txt requirements-peers.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; say which with: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --disable-pip-version-check -r requirements-dev.txt -e .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-peers.txt
	@touch $@

app: setup
	$(BIN)/maet app

test: setup browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/browser

test-card: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cuda --ignore tests/browser --ignore tests/app

# Slurm's own daemons in a temporary folder; only the programs are installed, and only where that is possible.
test-slurm: setup slurm
	@if command -v slurmctld >/dev/null || test -x /usr/sbin/slurmctld; then \
		MAET_TEST_SLURM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slurm; \
	else \
		echo "SKIPPED: the tests of jobs on Slurm. It is not installed, and installing it needs root and apt-get"; \
	fi

slurm:
	@command -v slurmctld >/dev/null || test -x /usr/sbin/slurmctld || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
		echo "No Slurm found; installing Debian's packages"; \
		apt-get update -q && env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
			slurmctld slurmd slurm-client munge; }

chaos: setup
	nice -n 10 $(BIN)/python tests/jobs/chaos.py

figures: setup
	$(BIN)/python benchmarks/coefficients.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# The browser tests drive whatever Chromium is there; Debian's is installed where there is none.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || { \
		echo "No Chromium found; installing Debian's package"; \
		command -v apt-get >/dev/null || { echo "Install Chromium first: the browser tests need it"; exit 1; }; \
		SUDO=; [ "$$(id -u)" = 0 ] || SUDO=sudo; \
		$$SUDO apt-get update -q && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }

demo: setup
	$(BIN)/maet demo build -o assets/demo

screenshots: setup browser
	$(BIN)/python tests/browser/screenshots.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
