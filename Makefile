# A clone needs git, make, Python 3.11 or newer, and a pulumi or Go for the engine.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
NEED_PYTHON = $(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Python 3.11 or newer is needed: put it on PATH, or run make PYTHON=/path/to/python" >&2; exit 1; }

# Uses the uv on PATH. Without one, installs uv into .uv and nowhere else.
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
# The Python language host of an official pulumi needs uv on PATH.
export PATH := $(PATH):$(CURDIR)/.uv/bin

# Use the system's Python, never a downloaded one.
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON_PREFERENCE := only-system

INSTALL_ENGINE = $(PYTHON) tools/engine/install.py --python .venv/bin/python
LINT = .venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: .venv/.installed ## create .venv from uv.lock

.venv/.installed: uv.lock $(wildcard pyproject.toml */pyproject.toml */*/_version.py) | $(filter .uv/%,$(UV))
	@$(NEED_PYTHON)
	$(UV) sync --frozen --python "$(PYTHON)"
	@touch $@

.uv/bin/uv:
	@$(NEED_PYTHON)
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.PHONY: engine
engine: install ## provide a pulumi CLI, and print its directory; VERSION=3.259.0 for an older one
	@$(INSTALL_ENGINE) $(if $(VERSION),--version $(VERSION))

.PHONY: test
test: install ## run lint, type checks and tests, on a real engine
	$(LINT)
	@directory="$$($(INSTALL_ENGINE))" && PULUMI_ENGINE_DIR="$$directory" .venv/bin/pytest -n 2 -m "not thorough and not languages"

.PHONY: thorough
thorough: install ## run the tests that make test leaves out, half an hour of the engine
	@directory="$$($(INSTALL_ENGINE))" && PULUMI_ENGINE_DIR="$$directory" .venv/bin/pytest -n 2 -m thorough

.PHONY: unit
unit: install ## run the unit, contract and plugin tests, which need no engine
	.venv/bin/pytest -n 2 tests/unit tests/contract tests/plugin

.PHONY: browser
browser: install ## test the emulator's page in a browser; needs chromium on PATH
	$(UV) sync --frozen --group browser --python "$(PYTHON)"
	BROWSER=required .venv/bin/pytest tests/browser

.PHONY: sdks
sdks: ## generate the SDKs of the native plugin into sdks; needs Go
	go -C tools/sdks run . ../..

.PHONY: languages
languages: install ## run the native plugin under YAML, TypeScript and Go; needs Go and npm
	@directory="$$($(INSTALL_ENGINE) --yaml)" && PULUMI_ENGINE_DIR="$$directory" .venv/bin/pytest -m languages tests/languages

.PHONY: lint
lint: install ## run ruff and mypy
	$(LINT)

.PHONY: format
format: install ## format the code and fix lint errors
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: demo
demo: install ## show a claim's life against a local emulator, without an account
	@directory="$$($(INSTALL_ENGINE))" && PATH="$$directory:$$PATH" .venv/bin/python tools/demo/demo.py

.PHONY: demo-clean
demo-clean: install ## stop the demo and remove its files
	@directory="$$($(INSTALL_ENGINE))" && PATH="$$directory:$$PATH" .venv/bin/python tools/demo/demo.py --clean

.PHONY: docs
docs: install ## build the pages into site; a dead link is an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

.PHONY: docs-serve
docs-serve: install ## serve the pages on http://127.0.0.1:8000 while you write
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve

.PHONY: wheels
wheels: install ## build both packages into dist, reproducibly
	rm -rf dist
	@for package in sdk provider; do \
		(cd $$package && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
			../.venv/bin/python -m hatchling build --directory ../dist/$$package) || exit 1; \
	done

.PHONY: matrix
matrix: install ## run the tests with the oldest and the newest versions; writes docs/reference/compatibility.md; SETS=…
	.venv/bin/python tools/matrix/matrix.py $(SETS)

.PHONY: bench
bench: install ## compare every operation with as many empty resources; SIZES=1,100; writes docs/reference/benchmarks.md
	@directory="$$($(INSTALL_ENGINE) --yaml)" && PULUMI_ENGINE_DIR="$$directory" \
		.venv/bin/python tests/bench/bench.py --out docs $(if $(SIZES),--sizes $(SIZES))

.PHONY: crash-matrix
crash-matrix: install ## run every death at every point of a claim's life; writes docs/reference/crash-matrix.md
	@directory="$$($(INSTALL_ENGINE))" && CRASH_MATRIX=write PULUMI_ENGINE_DIR="$$directory" \
		.venv/bin/pytest tests/engine/test_crashes.py

MINUTES := 20
.PHONY: fuzz
fuzz: install ## try random answers, files, settings and arguments; MINUTES=20 SEED=…
	.venv/bin/python tests/fuzz/fuzz.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: soak
soak: install ## run random work with random deaths on the real engine; MINUTES=20 SEED=… FACE=native
	@directory="$$($(INSTALL_ENGINE))" && PULUMI_ENGINE_DIR="$$directory" \
		.venv/bin/python tests/soak/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
		$(if $(FACE),--face $(FACE))

# The pure modules, which the promises rest on: every branch needs a test.
COVERED := */coreweave_inference/retry.py,*/identity.py,*/create.py,*/delete_guard.py,*/reads.py,*/rounds.py,*/inputs.py,*/readiness.py,*/catalogue.py,*/cli/review/*,*/cli/table.py
.PHONY: coverage
coverage: install ## show branches that no test without an engine covers; fails for the pure modules
	.venv/bin/pytest -n 2 --cov --cov-report=term-missing:skip-covered tests/unit tests/contract tests/plugin
	.venv/bin/coverage report --include='$(COVERED)' --fail-under=100

.PHONY: api-check
api-check: install ## compare the public names with the last release
	@tag="$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)"; \
	if [ -z "$$tag" ]; then echo "There is no release yet, so nothing to compare with."; exit 0; fi; \
	.venv/bin/griffe check coreweave_inference --search sdk --against "$$tag" && \
	.venv/bin/griffe check pulumi_coreweave_inference --search provider --against "$$tag"

.PHONY: clean
clean: ## remove everything that was installed or cached in this folder
	rm -rf examples/typescript/node_modules tests/languages/typescript/node_modules tests/languages/*/bin
	rm -rf .venv .uv .demo .matrix .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
