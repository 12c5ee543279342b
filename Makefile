# Everything here sets itself up: a fresh machine needs Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := $(if $(CI),-c constraints.txt,)
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= true
ifneq ($(wildcard ../shared/data),)
export REGRAFT_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test test-slow lint bench reproduce docs clean
.DEFAULT_GOAL := test

# PyTorch's CPU wheel where pip can find one; elsewhere PyTorch's own index for CPU builds.
$(VENV)/.installed: pyproject.toml constraints.txt scripts/install.sh
	$(PYTHON) -m venv $(VENV)
	BIN=$(BIN) CONSTRAINTS="$(CONSTRAINTS)" sh scripts/install.sh
	touch $@

demo: $(VENV)/.installed
	$(BIN)/regraft demo

# Two workers with one thread each take a third of the time of one with two: PyTorch's threads wait for each other on small models.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

# make test FAMILY=vocab: one family and the floors below it, that is all tests but other families'
FAMILIES := vocab grow tables text graph bias multimodal code concepts align probe
test: $(VENV)/.installed
	$(PYTEST) -m "not slow" $(if $(FAMILY),$(addprefix --ignore=tests/,$(filter-out $(FAMILY),$(FAMILIES))))

# what waits for real models or for the clock: run what covers your change, and all before a release
test-slow: $(VENV)/.installed
	$(PYTEST) -m slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run.py

# make reproduce METHOD=zip-tie
reproduce: $(VENV)/.installed
	$(BIN)/regraft reproduce $(METHOD)

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
