# set-up
#   make setup           .venv, with lando-fsm in the versions of requirements.lock
#   make dev             setup, and what the tests need: pytest, ruff, …; by apt-get, RabbitMQ, PostgreSQL, Graphviz
#                        and nftables
#   make demo            setup, and two real workflows on this machine
#   make clean           remove .venv, .demo (the demo's state) and what was built and cached
#
# tests (each runs make dev first)
#   make lint            ruff, mypy, and levels
#   make levels          checks that each package imports only from the levels below it (Python 3.11 or newer)
#   make check           lint, unit tests, a small exploration of the state machine: a minute
#   make test            all tests but those on a real OpenStack: some minutes; the 20 slowest are printed
#   make test-openstack  tests on a real OpenStack, which it installs in .lab and runs (Debian 12, root);
#                        KEEP=1 leaves it running for the next time
#   make test-vm         builds the worker image, and runs a job on a VM of it, in such an OpenStack
#
# more about the code
#   make crash           kills the daemon at each durable step with each queue and database, and PostgreSQL every
#                        5-40 s under JOBS=2000 jobs: an hour
#   make coverage        branch coverage of the tests that make test runs, daemons and workers included
#   make explore         explores the state machine deeper than make test does: some minutes
#   make bench           start delay compared with cwltool alone; messages per second
#
# what is generated
#   make diagrams        diagrams/, from the state machine
#   make lock            requirements.lock, from pyproject.toml; UPGRADE=1 takes the newest versions
#   make worker-image    build/worker-image: the image of the VMs, for OpenStack (root, Debian or Ubuntu)
#
# PYTHON=python3.12 is the Python that a new .venv is made with. WORKERS=4 is how many tests run at the same time.
# ONLY='quota or sweep' is passed to pytest -k, for coverage, crash and test-openstack.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
JOBS ?= 2000
IMAGE := build/worker-image/lando_worker.qcow2

.PHONY: help setup dev demo clean lint check test crash test-openstack test-vm levels coverage explore bench \
	diagrams lock worker-image

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.installed

dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml setup.py requirements.lock scripts/setup
	@scripts/setup $(PYTHON) $(VENV) demo
	@touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py requirements.lock scripts/setup
	@scripts/setup $(PYTHON) $(VENV) dev
	@touch $@ $(VENV)/.installed

demo: setup
	@scripts/demo

lint: dev levels
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

levels: dev
	@if [ -x $(BIN)/lint-imports ]; then \
		set -x; $(BIN)/lint-imports --no-logo; \
	else \
		echo "make levels: left out, since import-linter needs Python 3.11"; \
	fi

check: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'not large' tests/model tests/unit

# Most of these tests wait most of the time.
test: WORKERS := $(if $(filter auto,$(WORKERS)),$(shell echo $$((2 * $$(nproc)))),$(WORKERS))
test: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --durations 20 -m 'not alone and not crash'
	$(BIN)/pytest -m alone

crash: dev
	LANDO_TEST_CRASH_JOBS=$(JOBS) $(BIN)/pytest -n $(WORKERS) --dist worksteal -m 'crash or not crash' \
		tests/integration/test_crashes.py tests/integration/test_postgres_crashes.py \
		tests/integration/test_rabbitmq_crashes.py $(if $(ONLY),-k '$(ONLY)')

LAB := $(BIN)/python -m tests.openstack.lab

test-openstack: dev
	$(LAB) install
	$(LAB) run $(if $(KEEP),--keep) -- \
		$(BIN)/pytest tests/integration/test_nova_driver.py tests/openstack $(if $(ONLY),-k '$(ONLY)')

test-vm: dev $(IMAGE)
	$(LAB) install --driver libvirt
	LANDO_TEST_WORKER_IMAGE=$(IMAGE) $(LAB) run --driver libvirt $(if $(KEEP),--keep) -- \
		$(BIN)/pytest tests/openstack/test_vm.py

coverage: dev
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(if $(ONLY),-k '$(ONLY)'); status=$$?; \
		$(BIN)/coverage combine -q && $(BIN)/coverage report && exit $$status

explore: dev
	$(BIN)/python -m tests.model

bench: dev
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python -m benchmarks.throughput

diagrams: dev
	$(BIN)/python -m lando.views.diagram

worker-image: setup
	@worker/image/build

$(IMAGE): $(shell find lando worker -type f -not -path '*/__pycache__/*') pyproject.toml setup.py requirements.lock
	@$(MAKE) --no-print-directory worker-image

# Run on purpose; CI tests with these versions.
lock:
	@scripts/lock $(PYTHON) $(if $(UPGRADE),--upgrade)

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
