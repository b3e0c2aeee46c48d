# Two commands are all that a new user needs: `make demo` and `make test`. Each sets up .venv first, from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test serve lint format lock clean

help:
	@echo "make demo    see it work: label a rendered clip over REST, score it, stop"
	@echo "make serve   run the service at http://127.0.0.1:8000 (Ctrl-C stops it)"
	@echo "make test    every test and the linters"
	@echo "make lint | format | lock | clean"

demo: $(READY)
	$(BIN)/labelprop demo

serve: $(READY)
	@exec $(BIN)/labelprop serve

# A file's tests stay together, so that the servers it starts are started once.
test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or 3.12 is needed; name it with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Resolves pyproject.toml anew in an environment of its own and writes what came out. torch stays where it is pinned.
lock:
	$(PYTHON) tools/lock.py

clean:
	rm -rf $(VENV) build *.egg-info demo-out .pytest_cache .mypy_cache .ruff_cache
