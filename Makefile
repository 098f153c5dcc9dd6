# The one command surface. `make` prints this help.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Tests wait for processes and disks more than they compute: several at a time, a file on one worker.
WORKERS ?= 4
PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help setup packages lock generate verify format lint types imports test test-unit test-backends test-cluster \
        cluster-up cluster-down cluster-clean bench-streams bench-logs bench-runtime image demo run check clean

help: ## list the targets
	@grep -hE '^[a-z -]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

# -- setting up ---------------------------------------------------------------------------------------------------

setup: $(VENV)/.installed ## the virtual environment, from the lock file

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

packages: ## Debian packages the server and cluster tests need (root)
	scripts/install-debian-packages

lock: setup ## resolve the dependencies anew into the lock files
	UV="$(BIN)/uv" scripts/lock

generate: setup ## write what is made from code: crds/, the chart's CRDs, docs/reference
	$(BIN)/python -m scripts.generate

# -- using --------------------------------------------------------------------------------------------------------

demo: setup ## one YAML file becomes three running stores, without a cluster and without root
	$(BIN)/python examples/quickstart.py

run: setup ## the operator against the current kubeconfig context
	@test -f .storekeeper/signing-key.pem || $(BIN)/storekeeper keygen --file .storekeeper/signing-key.pem
	STOREKEEPER_SIGNING_KEY_FILE=.storekeeper/signing-key.pem STOREKEEPER_LOG_FORMAT=console $(BIN)/storekeeper run

image: setup ## the container image, as the tests build it (root)
	$(BIN)/python -m tests.cluster.localkube image

cluster-up: setup ## a real one-node Kubernetes on this machine (root)
	$(BIN)/python -m tests.cluster.localkube up

cluster-down: setup ## stop it and remove what it made
	$(BIN)/python -m tests.cluster.localkube down

cluster-clean: setup ## stop it and remove the cache of programs and images
	$(BIN)/python -m tests.cluster.localkube clean

bench-streams bench-logs bench-runtime: bench-%: setup ## benchmarks: JSON lines, and a table (QUICK=1: a smaller run)
	$(BIN)/python benchmarks/$*.py

# -- checking -----------------------------------------------------------------------------------------------------

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

lint: setup ## style, and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: setup ## mypy, strict
	$(BIN)/mypy

verify: setup ## generated files are what the code says
	$(BIN)/python -m scripts.generate --check

check: lint types verify ## everything that needs no test run

test-unit: setup ## tests that need nothing but Python
	$(PYTEST) $(PARALLEL) tests -m "not server and not cluster" --ignore=tests/cluster --ignore=tests/e2e

test-backends: setup ## conformance on real database servers
	$(PYTEST) $(PARALLEL) tests -m server --ignore=tests/cluster --ignore=tests/e2e

test-cluster: setup ## the operator on a real Kubernetes (root, or KUBECONFIG)
	$(PYTEST) tests/cluster tests/e2e tests/operator -m cluster

test: check test-unit test-backends test-cluster ## all of it

clean: ## remove what was built here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
