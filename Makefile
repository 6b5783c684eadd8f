# One virtual environment, made on first use; every target runs in it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test interpret lint check docs clean
.PHONY: tables table1 table2 table2-full table3 table3-full table5 figures fig1 fig2 fig3 classification systems
.PHONY: bench race
.NOTPARALLEL: # concurrent runs would share the machine, and so each other's training seconds

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with everything that running and testing need

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"hale needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(READY) ## train RotL with the HaLE loss on the embedded family graph and print its test metrics
	$(BIN)/python -m hale.run $(ARGS)

test: $(READY) ## run all tests, in a process per core
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal $(ARGS)

interpret: $(READY) ## test the Triton kernels without a GPU, in Triton's interpreter
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[interpreter]'
	$(BIN)/python -m pytest -q tests/test_triton.py

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## all of the above checks

DOCS := $(VENV)/.docs

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: $(DOCS) ## build the documentation site in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Tables and figures (docs/experiments.md says more):
#   BUDGET   of the paper's training seconds as 0.25, or seconds as 60s; or STEPS=2000
#   SEEDS    as 0,1,2 in place of the experiment's
#   DEVICE   cpu or gpu
#   JOBS     concurrent runs, with STEPS only
#   ARGS     narrows the runs, as ARGS="dataset=wn18rr model=rotl"
#   DRY=1    lists the runs, their states and hours, and does nothing
#   RESULTS  the folder that holds all records
#   ALSO     further folders of records, for systems that the first lacks
BUDGET ?= 0.25
DEVICE ?= cpu
JOBS ?= 1
RESULTS ?= results
SPENT := $(if $(STEPS),$(STEPS)steps,$(BUDGET))
RECORDS := $(RESULTS)/$(DEVICE)/$(SPENT)
VIZ := $(VENV)/.viz
SWEEP := $(VENV)/.sweep
NEEDS := $(READY) $(if $(filter-out 1,$(JOBS)),$(SWEEP)) # of a sweep

$(VIZ): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[viz]'
	@touch $@

$(SWEEP): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sweep]'
	@touch $@

# $(call reproduce,EXPERIMENT,SCRIPT): Hydra's sweep of what is missing, then build from all records
define reproduce
@$(BIN)/python -m experiments.sweep $(1) $(if $(SEEDS),seed=$(SEEDS)) $(ARGS) --budget $(SPENT) \
  --device $(DEVICE) --jobs $(JOBS) --results $(RESULTS) $(if $(DRY),--dry); status=$$?; \
if [ -z "$(DRY)" ] && [ $$status -lt 2 ]; then \
  mkdir -p $(RECORDS) && $(BIN)/python -m experiments.$(2) $(RECORDS) $(ALSO) || exit $$?; fi; \
exit $$status
endef

tables: table1 table2 table3 table5 ## all tables of the paper

table1: $(READY) ## statistics of the datasets
	$(BIN)/python -m experiments.table1 $(RESULTS)

table2: $(NEEDS) ## five models trained with HaLE and SamNeg, 32 dimensions (DRY=1 tells the hours)
	$(call reproduce,table2,table2)

table2-full: $(NEEDS) ## table 2 with its fully trained hyperbolic models too
	$(call reproduce,table2_full,table2)

table3: $(NEEDS) ## five models trained with HaLE and SamNeg, 256 dimensions
	$(call reproduce,table3,table3)

table3-full: $(NEEDS) ## table 3 with its fully trained baselines too
	$(call reproduce,table3_full,table3)

table5: $(NEEDS) ## HaLE without each of its parts
	$(call reproduce,table5,table5)

figures: fig1 fig2 fig3 ## all figures of the paper

fig1: $(READY) ## the activations
	$(BIN)/python -m experiments.fig1 $(RESULTS)

fig2: $(NEEDS) ## convergence by training strategy and by activation
	$(call reproduce,fig2,fig2)

fig3: $(NEEDS) $(VIZ) ## t-SNE of entities by training strategy; needs the weights of its runs
	$(call reproduce,fig3,fig3)

classification: $(READY) ## triple classification with the recorded runs on CoDEx
	$(BIN)/python -m experiments.classification $(RESULTS)

systems: $(READY) ## docs/systems.md, a list of every recorded run
	@mkdir -p $(RESULTS)
	$(BIN)/python -m experiments.systems $(RESULTS) docs/systems.md

# Benchmarks (docs/bench.md says more); quiet machines only:
#   THREADS  CPU threads; PyTorch's choice for bench, 1 for each system of the race
#   SECONDS  training seconds of each system of the race
#   RACE     folder of its records
#   JOBS     concurrent systems of the race, each on its own cores
SECONDS ?= 240
RACE ?= results/race
BENCH := $(VENV)/.bench

$(BENCH): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench: $(BENCH) ## time the parts of hale, and the same of PyKEEN
	$(BIN)/python -m benchmarks $(if $(THREADS),--threads $(THREADS)) $(ARGS)

race: $(BENCH) ## valid MRR against training seconds: hale, ComplEx-N3, PyKEEN
	$(BIN)/python -m benchmarks.race --seconds $(SECONDS) --threads $(or $(THREADS),1) \
	  --jobs $(JOBS) --folder $(RACE) $(ARGS)
	$(BIN)/python -m benchmarks.race --report --folder $(RACE)

clean: ## remove the environment and caches, not the results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
