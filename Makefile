# make demo             set everything up in this checkout and run two real workflows
# make test             ruff, mypy and all tests
# make test-openstack   tests against a real OpenStack, which it installs (Debian 12, root) and runs; KEEP=1
#                       leaves it up for the next run, ONLY='quota or sweep' chooses tests as pytest -k does
# make test-vm          builds the worker image, and runs a job on a VM of it, in such an OpenStack
# make worker-image     the image of the VMs, for OpenStack (as root, on Debian or Ubuntu)
# Everything is kept inside the checkout: .venv (Python packages), .demo (the demo's state), .lab (OpenStack),
# build (the image).

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
IMAGE := build/worker-image/lando_worker.qcow2

.PHONY: help setup dev demo test test-openstack test-vm lint unit explore bench diagrams worker-image lock clean

help:
	@sed -n '1,8s/^# //p' Makefile

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

test: lint unit

LAB := $(BIN)/python -m tests.openstack.lab

test-openstack: dev
	$(LAB) install
	$(LAB) run $(if $(KEEP),--keep) -- \
		$(BIN)/pytest tests/integration/test_nova_driver.py tests/openstack $(if $(ONLY),-k '$(ONLY)')

test-vm: dev $(IMAGE)
	$(LAB) install --driver libvirt
	LANDO_TEST_WORKER_IMAGE=$(IMAGE) $(LAB) run --driver libvirt $(if $(KEEP),--keep) -- \
		$(BIN)/pytest tests/openstack/test_vm.py

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
	$(BIN)/python -m lando.views.diagram.graph

worker-image: setup
	@worker/image/build

$(IMAGE): $(shell find lando worker -type f -not -path '*/__pycache__/*') pyproject.toml setup.py requirements.lock
	@$(MAKE) --no-print-directory worker-image

# Run on purpose; CI tests with these versions.
lock:
	@scripts/lock $(PYTHON) $(if $(UPGRADE),--upgrade)

clean:
	rm -rf $(VENV) .demo build dist *.egg-info
