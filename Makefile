# Every target sets up what it needs: a machine with Python 3.11 or newer, make and a package index is enough.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
CODE   := planner catalog probes tests benchmarks docs alembic

.PHONY: help plan test test-slow test-long lint bench docs golden quality constraints clean

help:
	@echo "make plan       plan examples/support-chat.toml and write its launch files to out/support-chat"
	@echo "make test       lint, types, import contracts, tests, docs; the built wheel alone plans last"
	@echo "make test-slow  what needs minutes or a tool environment"
	@echo "make test-long  what takes longer still: kills at random moments, broken checkpoints, every one-shot"
	@echo "make bench      cold commands, warm plans, candidates per second, POST /plan over HTTP"
	@echo "make docs       write again what is generated: README output, reference pages"
	@echo "make lint       ruff, mypy --strict, import contracts"
	@echo "make golden     write the golden files again; read the diff before you commit it"
	@echo "make quality    fit the law of losses to the evidence again; its parameters and its accuracy page"
	@echo "make constraints  the versions of this environment into constraints.txt"
	@echo "make clean      remove what was made here"

plan: $(VENV)/.core
	$(BIN)/lanewise plan examples/support-chat.toml --out out/support-chat

test: lint
	$(BIN)/python -m pytest -m "not slow" -n logical

# Much of it waits for servers and for the clock: three processes keep two cores busy. Each gets one thread: two of two
# threads each, which spin for one another on two cores, took six times as long for a token of llama.cpp.
test-slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not long" -n 3

test-long: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

lint: $(VENV)/.dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.core
	$(BIN)/python benchmarks/bench.py

docs: $(VENV)/.core
	$(BIN)/python docs/generate.py

golden: $(VENV)/.dev
	LANEWISE_GOLDEN=write $(BIN)/python -m pytest -m "not slow" -k golden

quality: $(VENV)/.dev
	LANEWISE_CATALOG_DIR=none $(BIN)/lanewise fit-quality --out catalog/data/quality/parameters.toml --page docs/accuracy/quality.md

constraints: $(VENV)/.dev
	@echo "# The versions that the suite ran with: \`pip install -c constraints.txt\`. Written by \`make constraints\`." > constraints.txt
	$(PIP) list --format=freeze --exclude-editable --exclude pip --exclude setuptools >> constraints.txt

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lanewise needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv module here (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PIP) install "pip>=25.1"

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e . --group test --group lint
	@touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) out dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
