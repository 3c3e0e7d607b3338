# Needs a Python of 3.11 or later and make; no root, nothing else installed beforehand.
# Every target sets itself up in .venv; `make PYTHON=/path/to/python3 …` names the Python.

.DEFAULT_GOAL := help
.PHONY: help demo doctor test test-faults test-kills soak bench docs lint format requirements package clean set-up-demo set-up-dev set-up-bench
ARGS ?=
PYTHON ?=
SOAK_FAULTS ?= 200
PARTS ?= fan_out scale_out steady_state due_set commands start_up reader
export PYTHON SOAK_FAULTS SOAK_SEED
BIN := .venv/bin

# --- Lines marked with ## are what `make help` prints.

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

## See it work

demo: set-up-demo ## exchange tokens for 500 sub-accounts of a local sandbox (ARGS=--help: more)
	@$(BIN)/subtokens demo $(ARGS)

## Run it

up: set-up-demo ## Redis, workers and beat on this machine, with your .env (ARGS="--workers 4")
	@$(BIN)/subtokens up $(ARGS)

## Change it

test: set-up-dev ## run all tests but those that take minutes (ARGS="tests/unit -k renewal": some)
	@$(BIN)/pytest -m "not faults and not kills and not soak" --numprocesses 3 --dist loadfile $(ARGS)

test-faults: set-up-dev ## the others: whole deployments through lifetimes, faults and kills, with figures
	@$(BIN)/pytest -m faults -rP --numprocesses 2 --dist loadfile $(ARGS)

test-kills: set-up-dev ## kill workers, Redis and beat at every moment of a step (FAULTS_KILLS=20: more)
	@$(BIN)/pytest -m kills -rP $(ARGS)

soak: set-up-dev ## a random walk over all faults (SOAK_FAULTS=200 SOAK_SEED=1: how many, and which)
	@$(BIN)/pytest tests/soak -m soak --capture=no $(ARGS)

lint: set-up-dev ## check format, style and types; change nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/pyright

format: set-up-dev ## put the format right, and of the style what can be
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: set-up-dev ## build the site of docs/ into build/docs; every warning is an error
	@$(BIN)/python docs/write_configuration.py
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@$(BIN)/sphinx-build -q --fresh-env --fail-on-warning --keep-going -c docs -d build/doctrees . build/docs $(ARGS)
	@echo "build/docs/index.html"

bench: set-up-bench ## measure for an hour, write docs/benchmarks.md (PARTS=start_up ARGS=--help: one)
	@set -e; for part in $(PARTS); do $(BIN)/python benchmarks/$$part.py $(ARGS); done
	@$(BIN)/python benchmarks/report.py

## Look after it

doctor: set-up-demo ## check this deployment's settings, Redis, Dintero and workers (ARGS=--json)
	@$(BIN)/subtokens doctor $(ARGS)

requirements: set-up-dev ## pin requirements/*.txt anew after a change (ARGS=--upgrade: newest)
	@.ci/pin-requirements $(ARGS)

package: set-up-dev ## build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

clean: ## remove .venv and all that was built or cached
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

set-up-demo:
	@.ci/set-up demo

set-up-dev:
	@.ci/set-up dev

set-up-bench:
	@.ci/set-up bench
