# Verbs of this repository; `make` alone lists them.
#
# State lives in two places only: .venv (Python side, with stamp files) and target (Cargo). Both are safe to delete.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.stamp-packages
EXTENSION := $(VENV)/.stamp-extension
# An ACME server for tests, and a DNS server that answers 127.0.0.1 to everything.
PEBBLE := github.com/letsencrypt/pebble/v2/cmd
PEBBLE_VERSION := v2.10.1
GO_INSTALL := GOFLAGS=-mod=mod GOBIN=$(CURDIR)/$(BIN) go install
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name target -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print)

.PHONY: help
help:  ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- build ----------------------------------------------------------------------------------------------------------

.PHONY: dev
dev: $(EXTENSION)  ## Build everything into .venv; starts nothing

$(VENV)/.stamp-python:
	@.ci/need cargo cc:gcc
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: pygate needs Python >= 3.11, $(PYTHON) is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/need --package python3-venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(PACKAGES): pyproject.toml $(VENV)/.stamp-python
	@$(BIN)/python .ci/requirements.py pyproject.toml > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(VENV)/requirements.txt
	@touch $@

$(EXTENSION): $(PACKAGES) $(RUST_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet
	@touch $@

.PHONY: run
run: dev  ## Start the gateway on 127.0.0.1:8080 with the quickstart and a demo upstream
	@exec $(BIN)/pygate run --demo

# ---- check ----------------------------------------------------------------------------------------------------------

.PHONY: test
test: dev packages lint test-rust test-python  ## Every test: linters, types, cargo, pytest

.PHONY: packages
packages:
	@.ci/need nginx:nginx-light haproxy caddy node:nodejs npm go:golang-go wrk valgrind curl openssl \
		h2load:nghttp2-client slowhttptest promtool:prometheus
	@[ -x $(BIN)/pebble-challtestsrv ] || { .ci/need go:golang-go && $(GO_INSTALL) $(PEBBLE)/pebble@$(PEBBLE_VERSION) \
		&& $(GO_INSTALL) $(PEBBLE)/pebble-challtestsrv@$(PEBBLE_VERSION); }
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || .ci/need --package postgresql
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || .ci/need --package libfaketime

SECONDS ?= 60
CARGO_FUZZ := $(BIN)/cargo-fuzz

$(CARGO_FUZZ): $(VENV)/.stamp-python
	@.ci/need c++:g++
	cargo install --quiet --locked --root $(VENV) cargo-fuzz

.PHONY: fuzz
fuzz: dev $(CARGO_FUZZ)  ## Every fuzz target, SECONDS=60 for all together
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

.PHONY: differential
differential: dev packages  ## pygate and its peers before five origins: who reads a request how
	$(BIN)/python -m tests.differential

.PHONY: lint
lint: $(EXTENSION)  ## rustfmt, clippy, ruff, mypy
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo fmt --manifest-path bench/tools/Cargo.toml --check
	cargo clippy --quiet --manifest-path bench/tools/Cargo.toml --target-dir target/tools --all-targets -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: test-rust
test-rust:  ## cargo test
	cargo test --workspace

.PHONY: test-python
test-python: $(EXTENSION)  ## pytest
	$(BIN)/python -m pytest

.PHONY: fmt
fmt: $(PACKAGES)  ## Format Rust and Python
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: docs
docs: $(EXTENSION)  ## Write the reference pages that are made from the code
	$(BIN)/python -m pygate.config.reference docs

# ---- measure --------------------------------------------------------------------------------------------------------

.PHONY: bench
bench: dev packages  ## pygate beside nginx, HAProxy and Envoy
	$(BIN)/python -m bench.proxy --json $(VENV)/bench-proxy.json

.PHONY: bench-ai
bench-ai: dev packages  ## pygate beside Envoy, LiteLLM and Portkey on calls of models
	$(BIN)/python -m bench.ai --json $(VENV)/bench-ai.json

.PHONY: bench-instructions
bench-instructions: dev  ## Instruction counts of fixed workloads against the checked-in baseline
	@.ci/need valgrind
	$(BIN)/python -m bench.instructions

.PHONY: bench-micro
bench-micro: dev  ## Times of single steps: head parse, route match, guard scan, reload
	$(BIN)/python -m pytest bench/micro --benchmark-columns=min,median,stddev,rounds

.PHONY: dist
dist: dev  ## A standalone build in dist/pygate that needs no Python on the host
	@.ci/need objdump:binutils
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pyinstaller>=6.10,<7'
	$(BIN)/pyinstaller --noconfirm --log-level WARN --distpath dist --workpath build deploy/pygate.spec
	@dist/pygate/pygate --version

.PHONY: image
image: dist  ## Build the container image on a debootstrap base, start it and try it (root)
	deploy/try-image

.PHONY: clean
clean:  ## Remove everything built
	rm -rf $(VENV) target dist build run .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f pygate/_core*.so
