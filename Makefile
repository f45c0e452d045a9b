# Everything a clone needs: git, make, Python 3.11 or newer, and Go (or a pulumi) for the engine.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
NEED_PYTHON = $(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Python 3.11 or newer is needed: put it on PATH, or run make PYTHON=/path/to/python" >&2; exit 1; }

# A uv on PATH is taken as it is; otherwise one is installed into .uv, and nowhere else.
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
# The Python language host of an official pulumi looks for uv on PATH.
export PATH := $(PATH):$(CURDIR)/.uv/bin

# The system's Python, never a downloaded one.
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON_PREFERENCE := only-system

INSTALL_ENGINE = $(PYTHON) tools/engine/install.py --python .venv/bin/python
LINT = .venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: .venv/.installed ## create .venv from uv.lock

.venv/.installed: uv.lock pyproject.toml sdk/pyproject.toml provider/pyproject.toml | $(filter .uv/%,$(UV))
	@$(NEED_PYTHON)
	$(UV) sync --frozen --python "$(PYTHON)"
	@touch $@

.uv/bin/uv:
	@$(NEED_PYTHON)
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.PHONY: engine
engine: install ## provide a pulumi CLI; prints its directory
	@$(INSTALL_ENGINE)

.PHONY: test
test: install ## lint, types, and all tests, against a real engine
	$(LINT)
	@directory="$$($(INSTALL_ENGINE))" && PULUMI_ENGINE_DIR="$$directory" .venv/bin/pytest -n 2

.PHONY: unit
unit: install ## the tests that need no engine
	.venv/bin/pytest -n 2 tests/unit tests/contract tests/plugin

.PHONY: lint
lint: install ## ruff and mypy
	$(LINT)

.PHONY: format
format: install ## put the code into shape
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: demo
demo: install ## a claim's life against a local emulator, without an account
	@directory="$$($(INSTALL_ENGINE))" && PATH="$$directory:$$PATH" .venv/bin/python tools/demo/demo.py

.PHONY: demo-clean
demo-clean: install ## remove what the demo left
	@directory="$$($(INSTALL_ENGINE))" && PATH="$$directory:$$PATH" .venv/bin/python tools/demo/demo.py --clean

.PHONY: clean
clean: ## remove everything that was installed or cached in this folder
	rm -rf .venv .uv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
