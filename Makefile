# tekton-tui: `make` says what there is.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 6
TESTS  ?=
AGENTS := $(VENV)/agents
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
WEIGHTS := $(VENV)/share/tekton/models/SmolLM2-135M-Instruct.Q4_1.gguf

CLIENTS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tekton-tui-clients
NPM_CLIENTS := $(addprefix @modelcontextprotocol/server-,filesystem everything memory)
NPM_CLIENTS += ai@7.0.173 @ai-sdk/openai@3.0.141 @ai-sdk/anthropic@3.0.140 @ai-sdk/openai-compatible@2.0.92 zod@4 node@22
NPM_CLIENTS += @openai/codex@0.171.0 @anthropic-ai/claude-code@2.1.332 opencode-ai@1.18.33
PYTHON_CLIENTS := mcp-server-time
PYTHON_CLIENTS += openai-agents==0.24.0 'pydantic-ai-slim[openai,anthropic]==2.68.0' litellm==1.110.2 llm==0.36
PYTHON_CLIENTS += langchain-openai==1.7.4 langchain-anthropic==1.7.10

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run serve setup test test-cluster test-agents test-clients matrix check lint types contracts deps bench fit fuzz snap demo docs release weights clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run $(WEIGHTS) ## Set up what is missing and open the console
	@$(BIN)/tekton-tui

serve: $(VENV)/.run $(WEIGHTS) ## Set up what is missing and run the backend alone, in the foreground
	@$(BIN)/tekton serve

setup: $(VENV)/.dev $(WEIGHTS) ## Set up everything, tests and checks included

test: $(VENV)/.dev $(WEIGHTS) ## Set up what is missing and run the tests, JOBS files at a time
	@$(PYTEST) $(TESTS)

test-cluster: $(VENV)/.dev ## Run what needs a Redis server (and Ray, where it is installed); never part of `make test`
	@$(BIN)/pytest -m cluster

test-agents: $(VENV)/.dev $(AGENTS)/node_modules/.bin/opencode ## Run what needs a real agent (opencode, by npm), offline, against a fake upstream
	@PATH="$(CURDIR)/$(AGENTS)/node_modules/.bin:$$PATH" $(BIN)/pytest -m agents

$(AGENTS)/node_modules/.bin/opencode:
	@npm install --no-audit --no-fund --prefix $(AGENTS) opencode-ai@1.18.33

test-clients: $(VENV)/.dev ## Install programs of others into CLIENTS (needs node and npm) and test with them; never part of `make test`
	@mkdir -p $(CLIENTS)
	@npm install --silent --no-fund --no-audit --prefix $(CLIENTS) $(NPM_CLIENTS)
	@cd $(CLIENTS)/node_modules/@anthropic-ai/claude-code && node install.cjs # npm may leave out what packages install
	@cd $(CLIENTS)/node_modules/opencode-ai && node postinstall.mjs
	@test -x $(CLIENTS)/python/bin/pip || $(PYTHON) -m venv $(CLIENTS)/python
	@$(CLIENTS)/python/bin/pip install --quiet --disable-pip-version-check $(PYTHON_CLIENTS)
	@TEKTON_CLIENTS=$(CLIENTS) $(BIN)/pytest -m clients

matrix: ## Run the tests on every Python from 3.11 on that this machine has; the last lines say which passed
	@MAKE="$(MAKE)" tools/matrix

check: lint types contracts deps $(WEIGHTS) ## Format, lint, types, import contracts, dependencies, tests
	@$(PYTEST)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/pyright

contracts: $(VENV)/.dev
	@$(BIN)/lint-imports

deps: $(VENV)/.dev # what the product imports is declared, what it declares is used; tests and benches declare theirs
	@$(BIN)/deptry backend tekton_tui
	@$(BIN)/deptry tests bench docs examples tools --exclude '^$$' --ignore DEP002,DEP004

bench: $(VENV)/.dev $(WEIGHTS) ## Run every benchmark and print its figures
	@for script in $(filter-out bench/fit_% bench/fuzz.py bench/redis_% bench/outages.py bench/links.py,$(shell grep -l __main__ bench/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

fit: $(VENV)/.dev ## Fit the model of matching anew, after a change of a shipped row, the vocabulary or the training requests
	@$(BIN)/python bench/fit_matching.py

fuzz: $(VENV)/.dev ## Throw 70,000 frames, 30,000 requests, 100,000 steps and 10,000 asks at a gateway, 15,000 streams, 10,000 keys (an hour)
	@$(BIN)/python bench/fuzz.py --frames 70000 --bodies 30000 --steps 100000 --asks 10000
	@TEKTON_FUZZ=1 TEKTON_STREAMS=5000 $(BIN)/pytest -q -s --timeout 3600 tests/providers/test_streams.py
	@TEKTON_ALL_STREAMS=1 $(BIN)/pytest -q --timeout 3600 tests/fleet/test_upstream_surfaces.py
	@TEKTON_FUZZ=1 $(BIN)/pytest -q -n $(JOBS) --timeout 3600 tests/test_specialist_files.py tests/test_grammar.py tests/memory/contract tests/tui/test_transcript_source.py tests/tui/test_transcript_view.py tests/tui/test_markdown.py tests/tui/test_closing.py
	@$(BIN)/pytest -q -m keys --timeout 3600 tests/tui
	@TEKTON_FUZZ=1 TEKTON_FUZZ_KEYS=10000 $(BIN)/pytest -q -s --timeout 3600 tests/tui/test_random_keys.py tests/tui/test_every_word.py tests/tui/test_web.py

snap: $(VENV)/.dev ## Draw the golden pictures anew; look at each before it is committed
	@$(BIN)/pytest tests/tui -q --snapshot-update

docs: $(VENV)/.dev ## Write docs/reference anew from the code
	@$(BIN)/python -m tools.reference

release: $(VENV)/.dev ## Check the version and its changelog, build, install the wheel apart and draw its console
	@$(BIN)/python -m tools.release

demo: $(VENV)/.run ## Make the moving picture docs/demo.svg anew from the product; look at it before it is committed
	@$(BIN)/python docs/demo.py

weights: $(WEIGHTS) ## Fetch and check the weights of the embedded model

clean: ## Remove the environment and everything built (never TEKTON_HOME); refused while a fleet runs from it
	@$(PYTHON) tools/setup.py remove $(VENV) $(if $(FORCE),--force)
	@rm -rf .matrix build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# An interrupted set-up leaves .unfinished: the recipe then runs again, whatever else is there.
$(VENV)/.run: pyproject.toml constraints.txt $(wildcard $(VENV)/.unfinished)
	@$(PYTHON) tools/setup.py install $(VENV) run

$(VENV)/.dev: pyproject.toml constraints.txt $(wildcard $(VENV)/.unfinished)
	@$(PYTHON) tools/setup.py install $(VENV) dev

$(WEIGHTS): | $(VENV)/.run
	@$(BIN)/python -m backend.providers.embedded.weights fetch
	@touch $@
