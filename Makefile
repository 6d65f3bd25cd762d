# Two commands are enough: `make run` and `make test`. Each makes .venv on first use; nothing else has to be installed.
PYTHON ?= python3
BIN := .venv/bin
# Threads that spin for long while they wait cost a factor of fifteen on a busy machine; see recot/request/command.py.
export GOMP_SPINCOUNT ?= 10000

.DEFAULT_GOAL := help
.PHONY: help run tables tune page test lint bench clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

FIRST := -m data=planted_clicks model=popularity,bprmf,sclrec
run: .venv/installed  ## three methods on planted clicks; or what ARGS="model=clrec data=gowalla" says
	$(BIN)/python -m recot.run $(or $(ARGS),$(FIRST))

# Words become options of recot.tables: PAPER=sclrec TABLE=table2,fig2 DATA=gowalla ROW=clrec SEEDS=0,1 BUDGET=30m JOBS=2
# FRESH=1 VERIFY=1 PROFILE=smoke RESULTS=mine LIMIT=2h LAUNCHER=slurm SLURM="partition=gpu mem_gb=32"; the rest goes into
# ARGS, such as ARGS=--list or ARGS=--dry-run. Data of your own: PAPER=own DATA_PATH=my.csv RESULTS=mine
# ARGS="data.user=uid data.time=timestamp". LAUNCHER and SLURM become options of recot.tune as well.
LAUNCHER_OPTIONS := $(if $(LAUNCHER),--launcher $(LAUNCHER)) $(if $(SLURM),--slurm "$(SLURM)")
TABLE_OPTIONS := $(if $(PAPER),--paper $(PAPER)) $(if $(TABLE),--table $(TABLE)) $(if $(DATA),--data $(DATA)) \
  $(if $(ROW),--row $(ROW)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(BUDGET),--budget $(BUDGET)) \
  $(if $(JOBS),--jobs $(JOBS)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(filter 1,$(FRESH)),--fresh) \
  $(if $(filter 1,$(VERIFY)),--verify) $(if $(PROFILE),--profile $(PROFILE)) \
  $(if $(RESULTS),--results $(RESULTS)) $(if $(DATA_PATH),data.path=$(DATA_PATH)) $(LAUNCHER_OPTIONS)

tables: .venv/installed  ## tables and figures of the papers into results/; PAPER=, TABLE=, DATA=, BUDGET=30m, ARGS=--list
	$(BIN)/python -m recot.tables $(TABLE_OPTIONS) $(ARGS)

tune: .venv/installed  ## settings by validation answers: PAPER=sclrec DATA=gowalla, or ARGS="model=clrec loss.tau=0.1,0.2 --trials 2"
	$(BIN)/python -m $(if $(PAPER),recot.tables --tune $(TABLE_OPTIONS),recot.tune $(LAUNCHER_OPTIONS)) $(ARGS)

page: .venv/installed  ## all results as pages for a browser, results/site/index.html, and the same as results/site.zip
	$(BIN)/python -m recot.page $(ARGS)

test: .venv/installed  ## all tests, on all processors; some of them, on one, with ARGS="tests/ot -k pot"
	$(BIN)/python -m pytest $(or $(ARGS),--numprocesses auto --maxprocesses 8 --dist worksteal)

lint: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed  ## our step and evaluation against their floors, as ratios
	$(BIN)/python -m recot.bench $(ARGS)

clean:  ## remove the environment; runs and results stay
	rm -rf .venv

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,page,fast]"
	touch $@
