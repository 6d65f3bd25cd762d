# Two commands are enough: `make run` and `make test`. Each makes .venv on first use; nothing else has to be installed.
PYTHON ?= python3
BIN := .venv/bin
# Threads that spin for long while they wait cost a factor of fifteen on a busy machine; see recot/run.py.
export GOMP_SPINCOUNT ?= 10000

.DEFAULT_GOAL := help
.PHONY: help run test lint bench clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/installed  ## one experiment; say which with ARGS="model=clrec data=gowalla"
	$(BIN)/python -m recot.run $(ARGS)

test: .venv/installed  ## all tests; some of them with ARGS="tests/ot -k pot"
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed  ## our step and evaluation against their floors, as ratios
	$(BIN)/python -m recot.bench $(ARGS)

clean:  ## remove the environment; runs and results stay
	rm -rf .venv

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@
