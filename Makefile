.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := app.py pages services state tests benchmarks

.PHONY: help run test check format pacts measure lock bench bench-console bench-stored soak looks pictures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start console and service in sandbox mode (console :8501, API :8600)
	@echo "Starting Holdfast. Console: http://127.0.0.1:$${STREAMLIT_SERVER_PORT:-8501}  API: http://127.0.0.1:$${API_PORT:-8600}"
	@exec $(BIN)/streamlit run app.py

test: $(VENV)/.dev $(VENV)/.system ## run every test (installs Chromium, PostgreSQL, Prometheus when missing)
	$(BIN)/python -m pytest -n 2 -m "not slow" --durations=15 $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not alone" --durations=15 $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m "alone" --durations=15 $(PYTEST_ARGS)

check: $(VENV)/.dev ## format, lint, types, layers
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

pacts: $(VENV)/.dev ## rewrite the committed contracts from the consumer tests
	rm -f tests/contract/pacts/*.json
	PACT_DIRECTORY=tests/contract/pacts $(BIN)/python -m pytest -q tests/contract/test_pact_rest_consumer.py tests/contract/test_pact_event_consumers.py

measure: $(VENV)/.dev ## print size, shape and language of the source, and the length of its journeys (SOURCE=another checkout)
	$(BIN)/python -m benchmarks.measure $(if $(SOURCE),--source $(SOURCE))
	$(if $(SOURCE),,$(BIN)/python -m benchmarks.journeys)

lock: $(VENV)/.dev ## write requirements.lock: every package of requirements.txt with the hashes of its files
	$(BIN)/python -m pip install --disable-pip-version-check -q uv==0.13.9
	$(BIN)/uv pip compile -q --generate-hashes --no-header --no-emit-index-url --no-annotate --universal --python-version 3.11 -o requirements.lock requirements.txt

bench: $(VENV)/.dev ## measure orders per second, latency and CPU of the worker
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-console: $(VENV)/.dev ## measure the console with a million orders stored, and what 30 viewers cost the orders
	$(BIN)/python -m benchmarks.console $(BENCH_ARGS)

bench-stored: $(VENV)/.dev ## measure whether an order costs more with a million orders stored, and the worker's memory
	$(BIN)/python -m benchmarks.stored $(BENCH_ARGS)

soak: $(VENV)/.dev ## faults in the middle of traffic for MINUTES=10, then the audit (SEED=1; REPLICAS=1: two workers, PostgreSQL)
	$(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) $(if $(REPLICAS),--replicas)

looks: $(VENV)/.dev $(VENV)/.system ## take a picture of every page in every state into DIR=folder (about fifteen minutes)
	$(BIN)/python -m tests.browser.looks $(or $(DIR),$(error say where the pictures go: make looks DIR=folder))

pictures: $(VENV)/.dev $(VENV)/.system ## take the pictures of docs/pictures anew (about seven minutes)
	$(BIN)/python -m tests.browser.pictures docs/pictures

clean: ## remove the environment and everything the sandbox wrote
	rm -rf $(VENV) var

$(VENV)/bin/python:
	@echo "Creating the Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing the packages of requirements.txt (about half a minute the first time)"
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run
	@echo "Installing what tests and checks need"
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Debian packages that the tests use for real: a browser, a database server, Prometheus and Alertmanager.
$(VENV)/.system: | $(VENV)/bin/python
	@sh tests/install_system_packages.sh
	@touch $@
