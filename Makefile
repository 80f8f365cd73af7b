# The verbs of this repository; each is a short script or one command. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help demo demo-down figures bench bench-quick images test check fmt unit system faults fuzz audit soak docs docs-serve setup clean
# Targets share the engine and the environment: their steps run one after another.
.NOTPARALLEL:

bin := .venv/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## bring up the fleet demo and show a PING going through it; leaves it running
	@scripts/demo

demo-down: ## remove what the demo made: containers, networks, volumes, images (Debian's base stays)
	@scripts/demo-down --images

figures: setup ## measure on the running demo (IDLE=600 for the ten idle minutes)
	@[ "$$(docker inspect --format '{{.State.Running}}' redis-dyn-amb.service 2>/dev/null)" = true ] || scripts/demo >/dev/null
	@$(bin)/python -m bench.figures

bench: ## measure both planes against every peer, half an hour with ROUNDS=5 (default 9), and write docs/benchmarks.md
	@scripts/setup bench
	@$(bin)/python -m bench
	@$(bin)/python -m bench.report

bench-quick: ## the short form, under two minutes; changes no document
	@scripts/setup bench
	@$(bin)/python -m bench --quick
	@$(bin)/python -m bench.report --quick

images: ## build all images
	@scripts/images

test: setup check images ## everything that CI runs: checks, then the whole test suite
	@scripts/test

check: setup ## lint, format, types, import contract
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --quiet --check .
	@$(bin)/mypy
	@$(bin)/lint-imports --no-cache >.work/lint-imports.log || { cat .work/lint-imports.log; exit 1; }

fmt: setup ## format the code and apply the linter's safe fixes
	@$(bin)/ruff format .
	@$(bin)/ruff check --fix .

unit: setup ## the tests that need no engine and no second machine: seconds to a few minutes
	@$(bin)/pytest -m "not docker and not system and not netns and not hosts"

system: setup images ## the tests against Docker, namespaces and two real hosts
	@$(bin)/pytest -m "docker or system or netns or hosts"

faults: setup images ## inject every fault of docs/faults.md, the long ones too, and print what came of it (build/faults.json)
	@scripts/faults

soak: setup ## HOURS=1 of mixed load with a random fault every half minute (SEED=N for the same again), and docs/soak.md
	@$(bin)/python -m tests.soak --hours $(or $(HOURS),1) $(if $(SEED),--seed $(SEED)) --report

fuzz: setup ## our parsers on hostile bytes, guided by coverage (SECONDS=60 of processor time for each, or one: TARGET=record)
	@scripts/fuzz --seconds $(or $(SECONDS),60) $(TARGET)

audit: ## whether a vulnerability is known in anything that is installed
	@scripts/audit

docs: setup ## write what is generated in docs/ and build the manual into build/site
	@$(bin)/python scripts/options
	@$(bin)/python scripts/metrics
	@$(bin)/mkdocs build

docs-serve: setup ## the manual at http://127.0.0.1:8000, anew after every change
	@$(bin)/python scripts/options
	@$(bin)/python scripts/metrics
	@$(bin)/mkdocs serve --no-strict

setup: ## install what this machine lacks, and .venv from the lock file
	@scripts/setup test

clean: ## remove what was built here (the demo goes first: make demo-down)
	@rm -rf .venv .work .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
