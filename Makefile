# Everything a person or a build machine runs here. `make` lists it.

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; PYTHON=/path/to/python chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
# The environment is made again when what it is made from has changed.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
# Two makes at once wait for each other here, where the system has flock.
LOCK := $(shell command -v flock >/dev/null 2>&1 && echo "flock $(VENV).lock")

.DEFAULT_GOAL := help
.PHONY: help demo run dev test check format docs e2e bench clean

help: ## List the targets.
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(STAMP) ## Hear a whole call: real audio, no key, no network.
	@$(BIN)/python -m agent_worker demo

test: $(STAMP) ## Unit and integration tests and the demo; no key, no network; on PostgreSQL too where it is installed.
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(STAMP) ## Format, lint, types, import rules.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: $(STAMP) ## Calls from a SIP phone through a real LiveKit server; builds it once, about 7 minutes.
	.ci/packages
	$(BIN)/python tests/e2e/stack/build.py
	$(BIN)/python -m pytest tests/e2e -n 2 --dist worksteal

bench: $(STAMP) ## Measure at the phone's ear, beside a plain LiveKit Agents worker.
	.ci/packages
	$(BIN)/python tests/e2e/stack/build.py
	$(BIN)/python -m bench

run: $(STAMP) ## Take calls, with the API beside them; needs LIVEKIT_URL and the providers' keys.
	$(BIN)/python -m agent_worker up

dev: $(STAMP) ## Take calls, with logs for people.
	$(BIN)/python -m agent_worker dev

format: $(STAMP) ## Format the code and mend what ruff can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## Write the tables of docs/configuration.md from the models.
	$(BIN)/python -m docs.generate

clean: ## Remove the environment, caches and the demo's files; never var/.
	rm -rf $(VENV) $(VENV).lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist demo-call
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found." >&2; exit 1; }
	@test ! -f $@ || touch $@
	@test -f $@ || $(LOCK) sh -c 'test -f $@ || { \
		echo "Preparing $(VENV) with $(PYTHON): about 120 packages, a few minutes the first time."; \
		{ test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && \
		$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt \
			-e ".[offline,console,postgres,dev]" && \
		rm -f $(VENV)/.installed-* && touch $@; }'
