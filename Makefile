# `make demo` and `make test` each set up all they need. See README.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo test lint types bench chaos crowd soak model fuzz clean

BIN := .venv/bin
# Tests mostly wait, so four at a time suit two cores.
WORKERS ?= 4

# A running cluster on this machine: lookup service, three nodes, ZooKeeper's protocol, Redis. Ctrl-C stops all of it.
demo: .venv/.server
	$(BIN)/ringway dev

# Lint, types on the installed wheel, all tests. The last lines say on which ZooKeeper and Redis it ran.
test:
	.ci/install-servers
	$(MAKE) --no-print-directory lint
	$(BIN)/pytest -n $(WORKERS)

lint: .venv/.dev
	$(BIN)/ruff check .

# mypy --strict on the wheel as a user gets it.
types: .venv/.dev
	$(BIN)/pytest -q tests/test_wheel.py -k strict

bench: .venv/.dev
	$(BIN)/python -m bench

# Traffic through every fault, and through three at random together, ten seeds; some 40 minutes, not part of `make test`.
chaos: .venv/.dev
	.ci/install-servers
	$(BIN)/python -m bench.chaos

# Half an hour of random faults on a real ensemble; not part of `make test`.
soak: .venv/.dev
	.ci/install-servers
	$(BIN)/python -m bench.soak

# 5,000 clients of a killed node, five times; some minutes, not part of `make test`.
crowd: .venv/.dev
	.ci/install-servers
	$(BIN)/python -m bench.crowd

# 100,000 steps and more of publishers, nodes and readers through every order of faults, in memory: some minutes, and
# never more than 15; other orders each time. `make test` has a shorter walk, always the same.
model: .venv/.dev
	HYPOTHESIS_PROFILE=soak $(BIN)/pytest -s -k protocol_holds tests/zookeeper/test_publication_model.py

# A million streams of frames, 24,000 rude clients, atheris, sanitizers; some ten minutes, not part of `make test`.
fuzz: .venv/.fuzz
	$(BIN)/python -m bench.fuzz

clean:
	rm -rf build dist var *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/bin/python:
	python=$$(.ci/find-python) && "$$python" -m venv .venv

.venv/.server: .venv/bin/python pyproject.toml requirements.txt ws_server/_fast.c
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml ws_server/_fast.c
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[server,dev]'
	touch $@ .venv/.server

.venv/.fuzz: .venv/.dev
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[fuzz]'
	touch $@
