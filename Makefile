# tekton-tui: `make` says what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile
WEIGHTS := $(VENV)/share/tekton/models/SmolLM2-135M-Instruct.Q4_1.gguf

.DEFAULT_GOAL := help
.PHONY: help run serve setup test test-cluster check lint types contracts bench fuzz snap demo weights clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run $(WEIGHTS) ## Set up what is missing and open the console
	@$(BIN)/tekton-tui

serve: $(VENV)/.run $(WEIGHTS) ## Set up what is missing and run the backend alone, in the foreground
	@$(BIN)/tekton serve

setup: $(VENV)/.dev $(WEIGHTS) ## Set up everything, tests and checks included

test: $(VENV)/.dev $(WEIGHTS) ## Set up what is missing and run the tests, JOBS files at a time
	@$(PYTEST)

test-cluster: $(VENV)/.dev ## Run what needs a Redis server (and Ray, where it is installed); never part of `make test`
	@$(BIN)/pytest -m cluster

check: $(VENV)/.dev $(WEIGHTS) lint types contracts ## Format, lint, types, import contracts, tests
	@$(PYTEST)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/pyright

contracts: $(VENV)/.dev
	@$(BIN)/lint-imports

bench: $(VENV)/.dev $(WEIGHTS) ## Run every benchmark and print its figures
	@for script in $(filter-out bench/fit_% bench/fuzz.py bench/redis_%,$(shell grep -l __main__ bench/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

fuzz: $(VENV)/.dev ## Throw 70,000 frames and 30,000 requests at a gateway (half an hour)
	@$(BIN)/python bench/fuzz.py --frames 70000 --bodies 30000

snap: $(VENV)/.dev ## Draw the golden pictures anew; look at each before it is committed
	@$(BIN)/pytest tests/tui -q --snapshot-update

demo: $(VENV)/.run ## Make the moving picture docs/demo.svg anew from the product; look at it before it is committed
	@$(BIN)/python docs/demo.py

weights: $(WEIGHTS) ## Fetch and check the weights of the embedded model

clean: ## Remove the environment and everything built (never TEKTON_HOME)
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tekton-tui needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "-- making the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "-- installing tekton-tui (a minute or two, once)"
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	@$(BIN)/python -m compileall -q backend tekton_tui
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "-- installing tekton-tui with what the tests need (a minute or two, once)"
	@$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.run

$(WEIGHTS): | $(VENV)/bin/python
	@test -e $(VENV)/.run || $(MAKE) --no-print-directory $(VENV)/.run
	@$(BIN)/python -m backend.providers.weights fetch
	@touch $@
