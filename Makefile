# `make help` lists the targets. Everything is installed into .venv from requirements/lock.txt.

PYTHON ?= python3
UV := .tools/uv/bin/uv
BIN := .venv/bin
export UV_SYSTEM_CERTS := 1
export UV_LINK_MODE := copy
# The heap in huge pages, where the kernel gives them to who asks: on a virtual machine imports take
# 0.5 to 0.9 of the CPU time (docs/figures.md). PYTHONMALLOC, as glibc asks for its own heap alone.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
export PYTHONMALLOC ?= malloc

.DEFAULT_GOAL := help
.PHONY: help setup wheel demo up down docs test test-unit test-whole test-thorough test-integration test-e2e test-faults test-cluster test-images coverage lint audit pin format bench bench-train bench-all bench-gpu lock clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: .venv/.installed ## install everything (uv, lock file) into .venv

# pip --target works on Debian's externally managed Python, and uv needs no venv module.
$(UV):
	@echo "Fetching uv"
	@mkdir -p .tools
	@awk '/^[^ ]/ { is_uv = /^uv==/ } is_uv' requirements/lock.txt > .tools/uv.txt
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
		--target .tools/uv --require-hashes --requirement .tools/uv.txt

.venv/.installed: requirements/lock.txt pyproject.toml | $(UV)
	@echo "Installing $$(grep -c == requirements/lock.txt) packages into .venv (3.9 GB; one to three minutes)"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements/lock.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@
	@echo "Installed. Call it as $(BIN)/slipway, or first: export PATH=$(CURDIR)/$(BIN):\$$PATH"

demo: setup ## three acts on real data: first run, canary and promotion, roll-back
	@$(BIN)/python -m cli.demo

wheel: setup ## build what `pip install` installs elsewhere, into build/wheel
	@$(UV) build --quiet --out-dir build/wheel .

up: setup ## start Airflow, MLflow, Envoy and the serving agent in the background
	@$(BIN)/slipway up

down: setup ## stop them all
	@$(BIN)/slipway down

# Each file has one worker (tests/side_by_side.py). `make test` leaves out what is marked thorough.
FILES := --dist loadfile --no-loadscope-reorder
THOROUGH ?= none

test: test-unit test-whole ## unit, integration, e2e, browser and security tests

# Tests of services wait: four workers keep two cores busy from beginning to end (docs/figures.md).
WORKERS ?= 4

test-whole: setup ## integration, e2e, browser and security tests side by side
	@$(BIN)/pytest --numprocesses $(WORKERS) $(FILES) --thorough $(THOROUGH) \
		--durations-file build/durations/whole.csv tests/e2e tests/integration tests/browser tests/security

test-thorough: setup ## the slow, exhaustive tests that `make test` leaves out
	@$(BIN)/pytest --numprocesses $(WORKERS) $(FILES) -m thorough --thorough $(THOROUGH:none=all) \
		--durations-file build/durations/thorough.csv tests/e2e tests/integration

test-unit: setup ## fast and offline
	@$(BIN)/pytest --numprocesses 3 --durations-file build/durations/unit.csv tests/unit

test-integration: setup ## real TensorFlow, Beam, MLflow, Envoy
	@$(BIN)/pytest --numprocesses 2 $(FILES) --durations-file build/durations/integration.csv \
		tests/integration

test-e2e: setup ## whole pipelines in real Airflow
	@$(BIN)/pytest --numprocesses 2 $(FILES) --durations-file build/durations/e2e.csv tests/e2e

COVERAGE := $(BIN)/coverage

# A process that was killed in the middle of writing leaves a file that `combine` leaves out.
coverage: setup ## lines that unit and integration tests run, also in their processes
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(COVERAGE) run -m pytest --numprocesses 2 $(FILES) --thorough $(THOROUGH) tests/unit tests/integration
	@$(COVERAGE) combine --quiet
	@$(COVERAGE) report

FAULTS := unit/components/models/test_checkpoints.py unit/components/train unit/components/evaluate \
	unit/launching/processes unit/launching/cluster unit/launching/test_restarts.py \
	integration/training/test_faults.py integration/training/test_feeding.py \
	integration/evaluation/test_protocol_exploration.py integration/evaluation/test_real_kills.py

test-faults: setup ## fault and property tests of training and evaluation, three times in a row
	@for round in 1 2 3; do $(BIN)/pytest $(addprefix tests/,$(FAULTS)) || exit 1; done

test-cluster: setup ## real Kubernetes: ../shared/k8s, else kind, else KUBECONFIG
	@$(BIN)/pytest -m 'not images' tests/cluster

test-images: setup ## build the images and run whole DAGs on them (an hour)
	@SLIPWAY_TEST_IMAGE=build $(BIN)/pytest tests/cluster/test_images.py tests/cluster/test_airflow_on_clusters.py

PACKAGES := cli components contract dags launching operators serving slipway

lint: setup ## ruff, mypy, import-linter, deptry, spelling, links of the docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry $(PACKAGES)
	@$(BIN)/codespell
	@$(BIN)/python tests/links.py README.md CONTRIBUTING.md CHANGELOG.md docs/*.md docs/how-to/*.md docs/decisions/*.md

# By OSV, since the other service calls a package that it does not know "not found" and goes on.
audit: $(UV) ## ask api.osv.dev for known vulnerabilities of what is locked
	@for file in requirements/*.txt; do $(UV) tool run --quiet --from pip-audit==2.10.1 pip-audit \
		--vulnerability-service osv --disable-pip --require-hashes --requirement $$file || exit 1; done

# A tag may name another image tomorrow, a digest never. Docker asks the registry, which the digest comes from.
pin: ## name base images by the digests that their tags have now
	@for file in docker/*.Dockerfile; do \
		tag=$$(sed -n 's/^ARG BASE=\([^@]*\).*/\1/p' $$file); [ -n "$$tag" ] || continue; \
		digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' $$tag) || exit 1; \
		sed -i "s,^ARG BASE=.*,ARG BASE=$$tag@$$digest," $$file; echo "$$file: $$tag@$$digest"; done

format: setup ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The site's own packages are apart: none of them is needed to run or to test anything.
.venv-docs/.installed: requirements/docs.txt | $(UV)
	@echo "Installing $$(grep -c == requirements/docs.txt) packages into .venv-docs"
	@test -x .venv-docs/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv-docs
	@$(UV) pip sync --quiet --require-hashes --python .venv-docs/bin/python requirements/docs.txt
	@touch $@

docs: setup .venv-docs/.installed ## the site in build/site; a warning is an error
	@$(BIN)/python docs/make_reference.py docs/reference
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "Built build/site/index.html"

BENCH := $(BIN)/python tests/benchmarks

bench: setup ## the figures of the chain on one machine: one JSON line each
	@for name in airflow pipelines server envoy judge judge_many late_labels start warm check collector; do $(BENCH)/bench_$$name.py || exit 1; done
	@$(BENCH)/bench_training.py --only tracking resume

bench-train: setup ## the figures of training: strategies, input, checkpoints, recovery, evaluation
	@for name in scaling training recovery evaluation; do $(BENCH)/bench_$$name.py || exit 1; done

bench-all: bench bench-train ## these, faults under load, the optimiser's and Kubernetes' (hours)
	@for name in chaos fuzz optimize kubernetes jobs_on_kubernetes airflow_on_kubernetes; do $(BENCH)/bench_$$name.py || exit 1; done

bench-gpu: setup ## step times by precision and XLA; on a GPU, into docs/gpu.md
	@$(BENCH)/bench_gpu.py --table docs/gpu.md

lock: $(UV) ## make requirements/lock.txt again from pyproject.toml, keeping versions that still fit
	$(UV) pip compile --quiet pyproject.toml --all-extras --python-version 3.11 --no-header --no-annotate --no-emit-index-url --generate-hashes --output-file requirements/lock.txt

clean: ## remove what `make` and `slipway` made
	rm -rf .venv .venv-docs .tools .slipway build docs/reference
