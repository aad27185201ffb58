# Everything people and CI do with this project. Each target installs what it needs into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
CODE   := xds_server mirror_collector demo bench tests docs
# Test processes; auto is one more than there are cores, because tests with an Envoy mostly wait.
JOBS   ?= auto
# Compiled modules are kept even where the environment forbids it: each test process imports all of them.
TESTS  := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --parts -n $(JOBS) --dist loadgroup --no-loadscope-reorder --max-worker-restart 0

.PHONY: help demo demo-vllm test e2e e2e-versions conformance verdicts equivalence-vllm likeness-vllm verdicts-vllm check lint golden docs protos fmt bench lock clean

help: ## Say what there is.
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || {
	  echo "python3-venv is missing; installing it"
	  $$(test "$$(id -u)" = 0 || echo sudo) apt-get install -y -q python3-venv >/dev/null
	  $(PYTHON) -m venv --clear $(VENV)
	}

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing the packages of requirements/runtime.txt into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "installing the packages of requirements/dev.txt into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(VENV)/.runtime ## Watch one model replace another behind a real Envoy (about a minute). ARGS=--keep leaves it running.
	@$(BIN)/shiftplane demo $(ARGS)

demo-vllm: $(VENV)/.runtime ## The same with two real vLLM servers on the CPU (first time: some 5 GB and 15 minutes).
	@$(BIN)/python -m demo.real_vllm prepare
	$(BIN)/shiftplane demo --backends vllm $(ARGS)

test: $(VENV)/.dev ## Run all tests, those with a real Envoy included; print how long each part takes.
	@$(TESTS) -m "not versions" tests

e2e: $(VENV)/.dev ## Run only the tests with a real Envoy.
	@$(TESTS) -m "e2e and not versions" tests

e2e-versions: $(VENV)/.dev ## Run the tests with Envoy 1.36 to 1.40 (fetches missing ones, some 30 MB each).
	@$(BIN)/python -m tests.support.envoy_versions
	$(TESTS) -m versions tests

conformance: $(VENV)/.dev ## Print how each item of the protocol checklist stands.
	@GRPC_VERBOSITY=none $(BIN)/python -m pytest tests/conformance -q -p tests.conformance.report

verdicts: $(VENV)/.dev ## Rollouts under traffic with ten seeds each, and error rates of verdicts (an hour).
	@$(BIN)/python bench/verdicts.py --runs 2000
	$(BIN)/python bench/verdict_traffic.py
	$(BIN)/python bench/rollouts.py

lint: $(VENV)/.dev ## Static checks only.
	@$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test ## What CI runs.

golden: $(VENV)/.dev ## Write the golden files anew and delete orphans.
	@$(BIN)/python tests/golden/regen_bad_specs.py
	$(BIN)/python tests/golden/regen_xds.py
	$(BIN)/python tests/golden/regen_notify.py
	$(BIN)/python tests/golden/regen_docs.py

docs: $(VENV)/.dev ## Build the site of docs/ into build/docs.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	echo "build/docs/index.html; with search: $(BIN)/python -m http.server -b 127.0.0.1 -d build/docs 8090"

protos: $(VENV)/.dev ## Generate code from protos/.
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=xds_server/xds/wire --pyi_out=xds_server/xds/wire discovery.proto status.proto worker.proto metrics.proto
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=xds_server/sources/wire --pyi_out=xds_server/sources/wire evidence.proto
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=mirror_collector/wire --pyi_out=mirror_collector/wire accesslog.proto evidence.proto

fmt: $(VENV)/.dev ## Format the code and mend what can be mended.
	@$(BIN)/ruff check --fix -q $(CODE) || true
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.dev ## Print every figure the docs claim; each command ends with one JSON line.
	@for script in $(filter-out %_vllm.py,$(wildcard bench/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

equivalence-vllm: $(VENV)/.dev ## Assess the equivalence of real vLLM servers (first run downloads 5 GB; then about 15 minutes).
	@$(BIN)/python -m demo.real_vllm prepare
	$(BIN)/python bench/equivalence_vllm.py

likeness-vllm: equivalence-vllm  # The former name.

verdicts-vllm: $(VENV)/.dev ## Break a real vLLM candidate in five ways; canary and shadow must find each (an hour at most).
	@$(BIN)/python -m demo.real_vllm prepare
	$(BIN)/python bench/verdicts_vllm.py $(ARGS)

lock: $(VENV)/.dev ## Resolve the ranges of pyproject.toml into requirements/*.txt.
	@common="--quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header"
	$(BIN)/pip-compile $$common --extra fast --extra demo -o requirements/runtime.txt pyproject.toml requirements/build.in
	$(BIN)/pip-compile $$common -c requirements/runtime.txt -o requirements/dev.txt requirements/dev.in

clean: ## Remove what was built; .vllm and .envoys stay.
	@rm -rf $(VENV) .shiftplane build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path "./.vllm/*" -prune -exec rm -rf {} +
