# Everything is reached from here; hosted CI calls the same targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= python3
BIN := .venv/bin
TOOLS := .tools
# uv from the PATH, or a private one.
UV := $(or $(shell command -v uv 2>/dev/null),$(TOOLS)/uv/bin/uv)
PACKAGE := layers/tailrace
TYPED := $(PACKAGE)/src $(wildcard functions/*) demo tests bench examples \
	docs/api.py .ci/audit.py

export PATH := $(CURDIR)/$(BIN):$(PATH)
export SAM_CLI_TELEMETRY := 0
export UV_PYTHON_DOWNLOADS := never

# Only `make deploy` sees an account.
NO_ACCOUNT := env -u AWS_PROFILE -u AWS_DEFAULT_PROFILE -u AWS_SESSION_TOKEN -u AWS_ENDPOINT_URL \
	AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 \
	AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up -----------------------------------------------------------------

ENVIRONMENT := $(BIN)/.installed
RUNTIME := $(TOOLS)/lambda/.installed
JAVASCRIPT := clients/js/node_modules/.installed

.PHONY: setup
setup: $(ENVIRONMENT) $(RUNTIME) $(JAVASCRIPT) ## Install every tool and dependency, pinned, inside this directory

# Before anything is made with it: an environment would outlive the mistake.
NEW_ENOUGH := $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "This needs Python 3.11 or later; make PYTHON=... names another" >&2; exit 1; }

$(TOOLS)/uv/bin/uv:
	@$(NEW_ENOUGH)
	@echo "No uv found: installing one into $(TOOLS)/uv"
	@$(PYTHON) -m venv $(TOOLS)/uv || \
		{ echo "This needs Python's venv and pip (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(TOOLS)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

$(ENVIRONMENT): requirements.lock $(PACKAGE)/pyproject.toml | $(UV)
	@test -x $(BIN)/python || { $(NEW_ENOUGH); }
	@echo "Installing the Python tools into .venv"
	@test -x $(BIN)/python || $(UV) venv --quiet --clear --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable $(PACKAGE)
	@touch $@

# The local AWS runs the functions with the Python that runs itself. It has an
# environment of its own, so that a function sees what Lambda would show it.
$(RUNTIME): requirements.lock pyproject.toml | $(UV)
	@echo "Installing the local AWS into $(TOOLS)/lambda"
	@test -x $(TOOLS)/lambda/bin/python || $(UV) venv --quiet --clear --python $(PYTHON) $(TOOLS)/lambda
	@$(UV) pip install --quiet --python $(TOOLS)/lambda/bin/python --group local-aws \
		--constraints requirements.lock --require-hashes
	@touch $@

$(JAVASCRIPT): clients/js/package-lock.json clients/js/package.json .npmrc
	@echo "Installing the JavaScript tools into clients/js/node_modules"
	@npm ci --silent --prefix clients/js
	@touch $@

.PHONY: lock
lock: | $(UV) ## Resolve the dependencies anew, within their ranges (UPGRADE=1: to the newest)
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url $(if $(UPGRADE),--upgrade) \
		--group pyproject.toml:dev --all-extras $(PACKAGE)/pyproject.toml \
		--output-file requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --no-annotate --constraints requirements.lock --upgrade \
		$(foreach name,boto3 botocore python-dateutil s3transfer six urllib3,--no-emit-package $(name)) \
		--extra functions $(PACKAGE)/pyproject.toml --output-file $(PACKAGE)/requirements.lock

RIVALS := bench/rivals/node_modules/.installed

$(RIVALS): bench/rivals/package-lock.json bench/rivals/package.json bench/rivals/.npmrc
	@echo "Installing the rivals into bench/rivals/node_modules"
	@npm ci --silent --prefix bench/rivals
	@touch $@

# --- develop ----------------------------------------------------------------

# Side by side, each with a local AWS of its own; a file's tests stay together.
WORKERS ?= 2

.PHONY: demo
demo: setup ## Start a local AWS, deploy this template onto it, open the demo page
	@$(NO_ACCOUNT) $(BIN)/python -m demo

.PHONY: test
test: setup browser ## Run every test: units, contracts, functions, deployed stack, browser
	$(NO_ACCOUNT) PYTHONDEVMODE=1 \
		$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)
	npm test --silent --prefix clients/js

.PHONY: check
check: setup ## Check format, lint, types, import rules, template and dependencies
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports --no-cache
	$(NO_ACCOUNT) $(BIN)/sam validate
	$(NO_ACCOUNT) $(BIN)/sam validate --lint
	npm run check --silent --prefix clients/js
	clients/js/node_modules/.bin/tsc -p demo
	$(BIN)/python .ci/audit.py

.PHONY: format
format: setup ## Rewrite the Python files in the one format
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

# Worlds, steps in each before its faults stop, and the time that it may take.
SEEDS ?= 20000
STEPS ?= 600
SECONDS ?= 3600

.PHONY: simulate
simulate: $(ENVIRONMENT) ## Try thousands of seeded worlds of faults (SEEDS, FIRST, STEPS, SECONDS, JOBS)
	$(BIN)/python -m tests.simulation --first $(or $(FIRST),0) $(if $(JOBS),--jobs $(JOBS)) \
		--seeds $(SEEDS) --steps $(STEPS) --seconds $(SECONDS) $(ARGS)

.PHONY: reach
reach: $(ENVIRONMENT) ## Measure how much of the core the worlds reach, in 2,000 seeds
	$(BIN)/python -m tests.simulation --coverage --missing --seeds 2000 --steps 300 $(ARGS)

.PHONY: mutants
mutants: $(ENVIRONMENT) ## Plant known bugs, and see the simulator find each
	$(BIN)/python -m tests.simulation.mutants

.PHONY: rivals
rivals: setup $(RIVALS)
	clients/js/node_modules/.bin/tsc -p bench/rivals
	@command -v redis-server >/dev/null || \
		{ echo "The rivals need Redis (Debian: apt-get install redis-server)" >&2; exit 1; }

.PHONY: bench
bench: rivals ## Measure everything; beside rivals, where there are any
	$(NO_ACCOUNT) $(BIN)/python -m bench.core
	$(NO_ACCOUNT) $(BIN)/python -m bench.rivals
	$(NO_ACCOUNT) $(BIN)/python -m bench.rivals --deployed
	$(NO_ACCOUNT) $(BIN)/python -m bench.posts
	$(NO_ACCOUNT) $(BIN)/python -m bench.startup
	$(NO_ACCOUNT) $(BIN)/python -m bench.producer
	$(NO_ACCOUNT) $(BIN)/python -m bench.compaction
	$(NO_ACCOUNT) $(BIN)/python -m bench.cpu
	$(NO_ACCOUNT) $(BIN)/python -m bench.cost
	$(NO_ACCOUNT) $(BIN)/python -m bench.latency
	$(NO_ACCOUNT) $(BIN)/python -m bench.limits
	npm run bench --silent --prefix clients/js
	$(NO_ACCOUNT) $(BIN)/python -m bench.load
	$(NO_ACCOUNT) $(BIN)/python -m bench.load --audience

.PHONY: bench-quick
bench-quick: $(ENVIRONMENT) $(RUNTIME) ## Compare costs and speeds with the figures that are kept
	@$(NO_ACCOUNT) $(BIN)/python -m bench.quick $(ARGS)

# The browser tests drive Debian's Chromium, or the one that CHROMIUM names.
export CHROMIUM ?= /usr/bin/chromium

.PHONY: browser
browser:
	@test -x "$(CHROMIUM)" || .ci/install-chromium

# --- deploy -----------------------------------------------------------------

.PHONY: deploy
deploy: setup ## Build, and deploy to the AWS account of your credentials (it asks first)
	$(BIN)/sam build
	$(BIN)/sam deploy $(if $(PARAMETERS),--parameter-overrides $(PARAMETERS))
