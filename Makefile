# make demo   plan to a bundled goal picture with the bundled PushT model
# make test   run the test suite
# make lint   ruff and mypy
#
# Each sets up .venv first, once. Variables:
#   PYTHON=python3.12   interpreter to build .venv with (3.11 or newer)
#   TORCH_INDEX=URL     take torch from this index first (PyTorch has one with small CPU-only builds)

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
READY := $(VENV)/.ready

.PHONY: help setup demo test lint clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,8p'

setup: $(READY)

# .ready is newer than pyproject.toml exactly when everything pyproject.toml asks for is installed.
$(READY): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no '$(PYTHON)' here; install Python 3.11 or newer, or say which to use: make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); Python 3.11 or newer is needed, for example: make PYTHON=python3.12"; exit 1; }
	@if ! "$(VENV)/bin/python" -m pip --version >/dev/null 2>&1; then \
		echo "==> making $(VENV) with $$("$(PYTHON)" --version)"; \
		"$(PYTHON)" -m venv --clear "$(VENV)" || { echo "error: could not make $(VENV); on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; \
	fi
	@if [ -n "$(TORCH_INDEX)" ]; then \
		echo "==> installing torch from $(TORCH_INDEX)"; \
		"$(VENV)/bin/python" -m pip install --disable-pip-version-check --index-url "$(TORCH_INDEX)" "torch>=2.9,<2.14"; \
	fi
	@echo "==> installing the project into $(VENV) (the first time this downloads torch and takes a few minutes)"
	@"$(VENV)/bin/python" -m pip install --disable-pip-version-check -e ".[test]"
	@touch $@

demo: $(READY)
	@echo "==> planning to agent/pretrained/pusht/goal.png with the bundled PushT model"
	@"$(VENV)/bin/python" plan.py --checkpoint pusht --goal agent/pretrained/pusht/goal.png --out demo

test: $(READY)
	@echo "==> running the tests"
	@"$(VENV)/bin/python" -m pytest

lint: $(READY)
	@echo "==> ruff"
	@"$(VENV)/bin/python" -m ruff check .
	@echo "==> mypy, on a copy laid out as it is installed"
	@rm -rf build/typed && mkdir -p build/typed/latent_planner
	@cp -r agent/. envs planners configs cli common build/typed/latent_planner
	@MYPYPATH=build/typed "$(VENV)/bin/python" -m mypy build/typed/latent_planner

clean:
	rm -rf "$(VENV)" build *.egg-info .pytest_cache .mypy_cache .ruff_cache
