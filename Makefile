# make demo   plan to a bundled goal picture with the bundled PushT model
# make play   a page in the browser: set goals with the mouse, watch the agent think
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
LIGHT := $(VENV)/.ready-demo

.PHONY: help setup demo play test lint clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,8p'

setup: $(READY)

# A stamp is newer than these files exactly when all that they ask for is installed: .ready-demo for what
# planning needs, .ready for the tests as well.
$(READY) $(LIGHT): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no '$(PYTHON)' here; install Python 3.11 or newer, or say which to use: make PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); Python 3.11 or newer is needed, for example: make PYTHON=python3.12"; exit 1; }
	@if ! "$(VENV)/bin/python" -m pip --version >/dev/null 2>&1; then \
		echo "==> making $(VENV) with $$("$(PYTHON)" --version)"; \
		"$(PYTHON)" -m venv --clear "$(VENV)" || { echo "error: could not make $(VENV); on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; \
	fi
	@if [ -n "$(TORCH_INDEX)" ]; then \
		echo "==> installing torch from $(TORCH_INDEX)"; \
		"$(VENV)/bin/python" -m pip install --disable-pip-version-check --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' constraints.txt)"; \
	fi
	@echo "==> installing $(if $(filter $(READY),$@),everything the tests need,what the demo needs) into $(VENV), once: a few minutes,"
	@echo "    and $(if $(filter $(READY),$@),2.5,1.5) GB of disk (5 GB more where pip takes the torch for NVIDIA cards; see TORCH_INDEX)"
	@$(if $(filter $(READY),$@),"$(VENV)/bin/python" -c '$(LEFT_OUT)')
	@rm -f $@
	@{ "$(VENV)/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e ".$(if $(filter $(READY),$@),[test])" 2>&1 && touch $@; } | grep --line-buffered -vE '$(NOISE)' || true
	@test -e $@ || { echo "error: the installation failed, pip says why above; the same command goes on from there"; exit 1; }

LEFT_OUT := import sys; sys.version_info < (3, 13) or print("    without the worlds Reacher and Cube: their packages are not to be had for Python 3.13 and newer")
NOISE := ^(Collecting|Processing|Requirement already|Obtaining|Looking in|Building|Created wheel|Stored in|Installing build|WARNING: Location)|^ +(Using cached|Downloading .*(kB|metadata)|Installing build|Checking if|Getting req|Preparing|Building|Created wheel|Stored in|Attempting|Found existing|Uninstalling|Successfully un|━)|^$$|^(Installing collected|Successfully (built|installed))

demo: $(if $(wildcard $(READY)),$(READY),$(LIGHT))
	@echo "==> planning to agent/pretrained/pusht/goal.png with the bundled PushT model"
	@"$(VENV)/bin/python" plan.py --checkpoint pusht --goal agent/pretrained/pusht/goal.png --out demo

play: $(if $(wildcard $(READY)),$(READY),$(LIGHT))
	@"$(VENV)/bin/python" -c 'import websockets' 2>/dev/null || \
		"$(VENV)/bin/python" -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[serve]"
	@"$(VENV)/bin/python" plan.py --play

test: $(READY)
	@echo "==> running the tests"
	@"$(VENV)/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(READY)
	@echo "==> ruff"
	@"$(VENV)/bin/python" -m ruff check .
	@echo "==> mypy, on a copy laid out as it is installed"
	@rm -rf build/typed && mkdir -p build/typed/latent_planner
	@cp -r agent/. envs planners configs cli common build/typed/latent_planner
	@MYPYPATH=build/typed "$(VENV)/bin/python" -m mypy build/typed/latent_planner

clean:
	rm -rf "$(VENV)" build *.egg-info .pytest_cache .mypy_cache .ruff_cache
