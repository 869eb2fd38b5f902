# `make run` and `make test` do all the set-up on a machine that has Python 3.11+, git and a compiler.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
ENV    := .venv
UV     := .build/uv/bin/uv
PY     := $(ENV)/bin/python
BENCH_ENV := .build/bench-env
ENGINES_ENV := .build/engines
DATAHUB_ENV := .build/datahub
OPENLINEAGE_ENV := .build/openlineage
KUBERNETES_ENV := .build/airflow-kubernetes
CELERY_ENV := .build/airflow-celery
NOTIFIERS_ENV := .build/notifiers
OIDC_PROVIDER := .build/oidc-provider
BENCH_OPTIONS := $(if $(filter-out 0,$(QUICK)),--quick)
export AIRBERG_HOME ?= $(CURDIR)/.airberg
export VIRTUAL_ENV := $(CURDIR)/$(ENV)
unexport PYTHONHOME PYTHONPATH

COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

# What needs Airflow, in an order in which no test finds it ended by the one before.
AIRFLOW_TESTS := tests/contract/test_orchestrator_behaviour.py tests/integration/flows tests/e2e/test_e2e_lifecycle.py

CHAOS_LONG := CHAOS_KILLS=$(or $(KILLS),200) CHAOS_SEED=$(SEED) CHAOS_EPISODE=$(EPISODE)

.PHONY: help run up test chaos model race test-spark test-connectors test-datahub test-kubernetes test-celery test-notifiers smoke-datahub test-openlineage test-airflow-versions airflow-package check lint types sanitize reference lock clean \
  bench bench-append bench-live bench-memory bench-conversion bench-tables bench-merge bench-columns bench-api bench-governance bench-flows

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(ENV)/.runtime  ## Start everything, load source-faker, show the rows (ONCE=1: then stop)
	@$(ENV)/bin/airberg quickstart $(if $(filter-out 0,$(ONCE)),--once)

up: $(ENV)/.runtime  ## Start the embedded stack and stay
	@$(ENV)/bin/airberg up

test: $(ENV)/.dev $(ENGINES_ENV)/.made $(OIDC_PROVIDER)/.made  ## Run the tests (real Airflow and a real connector among them)
	@$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

chaos: $(ENV)/.dev  ## Kill runs 200 times, make 10,000 requests (KILLS=…; API_CASES=…; SEED=… and EPISODE=… replay)
	@$(CHAOS_LONG) $(PY) -m pytest -q -m chaos $(ARGS) tests/chaos

model: $(ENV)/.dev  ## Play random plans on tables, against a dictionary (EXAMPLES=… per delete format; SEED=… replays)
	@seed=$(or $(SEED),$$RANDOM); echo "model: SEED=$$seed"; \
	  MODEL_EXAMPLES=$(or $(EXAMPLES),500) MODEL_SEED=$$seed $(PY) -m pytest -q $(ARGS) tests/integration/lake/test_lake_model.py

race: $(ENV)/.dev  ## A merge, an append and a compaction at once, a hundred times (ROUNDS=…; SEED=…)
	@seed=$(or $(SEED),$$RANDOM); echo "race: SEED=$$seed"; \
	  RACE_ROUNDS=$(or $(ROUNDS),100) RACE_SEED=$$seed $(PY) -m pytest -q $(ARGS) tests/integration/lake/test_lake_race.py

test-spark: $(ENV)/.dev  ## Let Spark read our tables and write to them (needs Java 17 and Maven, else it says so)
	@SPARK_TESTS=1 $(PY) -m pytest -q $(ARGS) tests/spark

test-connectors: $(ENV)/.dev  ## Load tables with connectors of Airbyte from the package index (2 GB)
	@CONNECTOR_TESTS=1 $(PY) -m pytest -q $(ARGS) tests/connectors

test-datahub: $(ENV)/.dev $(DATAHUB_ENV)/.made  ## Compare what we tell DataHub with its own Iceberg source (400 MB)
	@DATAHUB_TESTS=1 $(PY) -m pytest -q $(ARGS) tests/parity

test-kubernetes: $(ENV)/.dev $(KUBERNETES_ENV)/.made  ## Hold pods against Kubernetes' API, run tasks in pods, the image's way too (400 MB)
	@KUBERNETES_TESTS=1 $(PY) -m pytest -q -n 2 --dist loadfile $(ARGS) tests/kubernetes

test-celery: $(ENV)/.dev $(CELERY_ENV)/.made  ## Jobs on Celery workers that are killed, with Redis and PostgreSQL (360 MB)
	@CELERY_TESTS=1 $(PY) -m pytest -q $(ARGS) tests/celery

test-notifiers: $(ENV)/.dev $(NOTIFIERS_ENV)/.made  ## Tell people of failures by Airflow's own notifiers for Slack and e-mail (250 MB)
	@NOTIFIER_TESTS=1 $(PY) -m pytest -q $(ARGS) tests/notifiers

test-openlineage: $(ENV)/.dev $(OPENLINEAGE_ENV)/.made  ## A flow's task as the parent of our run, by Airflow's OpenLineage provider (210 MB)
	@OPENLINEAGE_TESTS=1 $(PY) -m pytest -q $(ARGS) tests/openlineage

smoke-datahub: $(ENV)/.dev  ## Load tables, and look at all that a real DataHub then has (needs Docker, or SERVER=…)
	@AIRBERG_HOME=$(CURDIR)/.build/smoke-datahub $(PY) examples/datahub/smoke_datahub.py $(if $(SERVER),--server $(SERVER))

test-airflow-versions: $(ENV)/.dev  ## Run the tests of flows on Airflow 3.1 and 3.2 (VERSIONS=airflow31; 250 MB each)
	@for version in $(or $(VERSIONS),airflow31 airflow32); do echo "== $$version"; \
	  AIRFLOW_UNDER_TEST=$$version $(PY) -m pytest -q $(ARGS) $(AIRFLOW_TESTS); done

airflow-package: $(UV)  ## Build the wheel that Airflow installs, to dist/
	@$(UV) build -q --wheel --out-dir dist airflow-package
	@ls dist/airberg_airflow-*.whl

check: lint types  ## Everything that reads the code without running it

lint: $(ENV)/.dev
	@$(ENV)/bin/ruff check .
	@$(ENV)/bin/ruff format --check .
	@$(PY) scripts/house_rules.py

types: $(ENV)/.dev
	@$(ENV)/bin/mypy

bench: bench-append bench-live bench-memory bench-conversion bench-tables bench-merge bench-columns bench-api bench-governance bench-flows  ## All benchmarks, to benchmarks/results (QUICK=1: tiny)

bench-append: $(ENV)/.dev $(BENCH_ENV)/.made  ## Rows per second beside DuckDB, pyarrow, PyAirbyte and dlt
	@$(PY) -m benchmarks.append $(BENCH_OPTIONS)

bench-live: $(ENV)/.dev  ## A whole sync of source-faker beside the connector alone
	@$(PY) -m benchmarks.live $(BENCH_OPTIONS)

bench-memory: $(ENV)/.dev  ## Peak memory at one and at twenty million rows
	@$(PY) -m benchmarks.memory $(BENCH_OPTIONS)

bench-conversion: $(ENV)/.dev  ## Rows per second of decoding and conversion alone
	@$(PY) -m benchmarks.conversion $(BENCH_OPTIONS)

bench-tables: $(ENV)/.dev  ## Rows per second of writing alone, append and merge
	@$(PY) -m benchmarks.tables $(BENCH_OPTIONS)

bench-merge: $(ENV)/.dev $(BENCH_ENV)/.made  ## What a merge costs beside pyiceberg's upsert and dlt, and scans afterwards
	@$(PY) -m benchmarks.merge $(BENCH_OPTIONS)

bench-columns: $(ENV)/.dev  ## Casts, renames and encryption, and an append with two encrypted columns beside a plain one
	@$(PY) -m benchmarks.columns $(BENCH_OPTIONS)

bench-api: $(ENV)/.dev  ## The HTTP service: start, memory, and fifty clients over 10,000 jobs and a million runs
	@$(PY) -m benchmarks.api $(BENCH_OPTIONS)

bench-flows: $(ENV)/.dev  ## From a POST to a task that runs, parsing and CPU, with 20, 1,000 and 10,000 jobs in Airflow
	@$(PY) -m benchmarks.flows $(BENCH_OPTIONS)

bench-governance: $(ENV)/.dev  ## A hundred tables told to DataHub: requests, bytes, seconds, memory
	@$(PY) -m benchmarks.governance $(BENCH_OPTIONS)

sanitize: $(ENV)/.dev  ## Test the compiled modules under the address and undefined-behaviour sanitizers
	@scripts/sanitize.sh $(PY)

reference: $(ENV)/.dev  ## Write the reference pages that come from code
	@$(PY) scripts/write_reference.py

lock: $(UV)  ## Lock the dependencies again
	$(COMPILE) --upgrade pyproject.toml --extra postgresql -c requirements/constraints.in -o requirements/airberg.txt
	$(COMPILE) --upgrade requirements/airflow.in -o requirements/airflow.txt
	$(COMPILE) --upgrade requirements/airflow31.in -o requirements/airflow31.txt
	$(COMPILE) --upgrade requirements/airflow32.in -o requirements/airflow32.txt
	$(COMPILE) --upgrade requirements/pyairbyte.in -o requirements/pyairbyte.txt
	$(COMPILE) --upgrade requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) --upgrade requirements/dev.in -o requirements/dev.txt
	$(COMPILE) --upgrade requirements/bench.in -o requirements/bench.txt
	$(COMPILE) --upgrade requirements/spark.in -o requirements/spark.txt
	$(COMPILE) --upgrade requirements/engines.in -o requirements/engines.txt
	$(COMPILE) --upgrade requirements/datahub.in -o requirements/datahub.txt
	$(COMPILE) --upgrade requirements/notifiers.in -o requirements/notifiers.txt
	$(COMPILE) --upgrade requirements/openlineage.in -o requirements/openlineage.txt
	$(COMPILE) --upgrade requirements/airflow-kubernetes.in -o requirements/airflow-kubernetes.txt
	$(COMPILE) --upgrade requirements/kubernetes-schemas.in -c requirements/airflow-kubernetes.txt \
	  -o requirements/kubernetes-schemas.txt
	$(COMPILE) --upgrade requirements/airflow-celery.in -c requirements/airflow.txt -o requirements/airflow-celery.txt
	@cd tests/oidc-provider && npm install --silent --package-lock-only --ignore-scripts \
	  --omit-lockfile-registry-resolved --no-audit --no-fund

clean:  ## Remove environments and the embedded stack's data
	rm -rf .build $(ENV) .airberg

$(UV): requirements/bootstrap.txt
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .build/uv
	@.build/uv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(ENV)/bin/python: | $(UV)
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(ENV)

$(ENV)/.runtime: requirements/airberg.txt pyproject.toml hatch_build.py $(wildcard native/*) | $(ENV)/bin/python
	@echo "Installing Airberg's environment"
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements/airberg.txt
	@$(UV) pip install -q --no-deps --reinstall-package airberg -e .
	@touch $@

$(ENV)/.dev: requirements/dev.txt $(ENV)/.runtime
	@echo "Installing the tools for tests"
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements/dev.txt
	@touch $@

$(BENCH_ENV)/.made: requirements/bench.txt | $(UV)
	@echo "Installing the peers of the benchmarks"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(BENCH_ENV)
	@$(UV) pip install -q --python $(BENCH_ENV)/bin/python --compile-bytecode --require-hashes -r requirements/bench.txt
	@touch $@

$(ENGINES_ENV)/.made: requirements/engines.txt | $(UV)
	@echo "Installing ClickHouse, DuckDB and Tink for tests"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(ENGINES_ENV)
	@$(UV) pip install -q --python $(ENGINES_ENV)/bin/python --require-hashes -r requirements/engines.txt
	@touch $@

$(DATAHUB_ENV)/.made: requirements/datahub.txt | $(UV)
	@echo "Installing DataHub's own Iceberg source for tests"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(DATAHUB_ENV)
	@$(UV) pip install -q --python $(DATAHUB_ENV)/bin/python --require-hashes -r requirements/datahub.txt
	@touch $@

$(KUBERNETES_ENV)/.made: requirements/airflow-kubernetes.txt requirements/kubernetes-schemas.txt | $(UV)
	@echo "Installing Airflow with its provider for Kubernetes"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(KUBERNETES_ENV)
	@$(UV) pip install -q --python $(KUBERNETES_ENV)/bin/python --require-hashes \
	  -r requirements/airflow-kubernetes.txt -r requirements/kubernetes-schemas.txt
	@touch $@

$(CELERY_ENV)/.made: requirements/airflow-celery.txt | $(UV)
	@echo "Installing Airflow with Celery, and Redis, for tests"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(CELERY_ENV)
	@$(UV) pip install -q --python $(CELERY_ENV)/bin/python --compile-bytecode --require-hashes -r requirements/airflow-celery.txt
	@touch $@

$(NOTIFIERS_ENV)/.made: requirements/notifiers.txt | $(UV)
	@echo "Installing Airflow with its notifiers for tests"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(NOTIFIERS_ENV)
	@$(UV) pip install -q --python $(NOTIFIERS_ENV)/bin/python --require-hashes -r requirements/notifiers.txt
	@touch $@

$(OPENLINEAGE_ENV)/.made: requirements/openlineage.txt | $(UV)
	@echo "Installing Airflow with its OpenLineage provider for tests"
	@$(UV) venv -q --allow-existing --python $$($(PYTHON) -c 'import sys; print(sys.executable)') $(OPENLINEAGE_ENV)
	@$(UV) pip install -q --python $(OPENLINEAGE_ENV)/bin/python --require-hashes -r requirements/openlineage.txt
	@touch $@

# Versions and hashes are those of the lock file, and no package runs scripts of its own.
$(OIDC_PROVIDER)/.made: $(wildcard tests/oidc-provider/package*.json)
	@if ! command -v npm >/dev/null; then echo "npm is not here: tests with an OpenID provider are skipped"; exit 0; fi; \
	  echo "Installing an OpenID provider for tests"; mkdir -p $(@D); cp $^ $(@D); \
	  (cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund); touch $@
