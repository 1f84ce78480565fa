# make demo   set everything up in this checkout and run two real workflows
# make test   ruff, mypy and all tests
# Everything is kept inside the checkout: .venv (Python packages) and .demo (the demo's state).

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.PHONY: help setup dev demo test lint unit explore bench diagrams lock clean

help:
	@sed -n '1,3s/^# //p' Makefile

setup: $(VENV)/.installed

dev: $(VENV)/.installed-dev

$(VENV)/.installed: setup.py requirements.lock scripts/setup
	@scripts/setup $(PYTHON) $(VENV) demo
	@touch $@

$(VENV)/.installed-dev: setup.py requirements.lock scripts/setup
	@scripts/setup $(PYTHON) $(VENV) dev
	@touch $@ $(VENV)/.installed

demo: setup
	@scripts/demo

test: lint unit

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: dev
	$(BIN)/pytest -n $(WORKERS)

explore: dev
	$(BIN)/python -m tests.model

bench: dev
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python -m benchmarks.throughput

diagrams: dev
	$(BIN)/python -m lando.diagrams

# The versions that CI tests with; run on purpose, and commit the result.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock && .lock/bin/pip install -q '.[dev]'
	.lock/bin/pip freeze --exclude lando-fsm --exclude lando_fsm | grep -v ' @ ' > requirements.lock
	rm -rf .lock

clean:
	rm -rf $(VENV) .demo build dist *.egg-info
