# `make quickstart` and `make test` are all that a new user needs; both work on a fresh machine with Python 3.10-3.12.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow devicelab lint format docs install install-dev clean

quickstart: install
	$(BIN)/edgekd run recipes/quickstart.yaml --out runs/quickstart

# Tests start hundreds of processes: where Python is told to keep no bytecode, each would compile edgekd anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: install-dev
	$(BIN)/python -m pytest -m slow

# An emulated ARM device, kept in the user's cache, and the tests that run on it: docs/devices.md.
devicelab: install-dev
	$(BIN)/python -m tests.devicelab build
	$(BIN)/python -m pytest -m device

lint: install-dev
	$(BIN)/ruff check edgekd tests benchmarks mkdocs_hooks.py
	$(BIN)/ruff format --check edgekd tests benchmarks mkdocs_hooks.py
	$(BIN)/mypy

format: install-dev
	$(BIN)/ruff check --fix edgekd tests benchmarks mkdocs_hooks.py
	$(BIN)/ruff format edgekd tests benchmarks mkdocs_hooks.py

# The documentation as a site, in site/.
docs: install-dev
	$(BIN)/python -m mkdocs build

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "edgekd needs Python 3.10, 3.11 or 3.12; choose one: make PYTHON=python3.11 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# torch and torchvision are resolved together: a torch that is already there may not fit the newest torchvision.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
