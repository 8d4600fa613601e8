# Everything runs in $(VENV); `make test VENV=/tmp/x` uses another place.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One thread: the solver's matrices are small; on a busy machine more threads mostly wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: demo assets test lint types install install-test

demo: install
	$(BIN)/python -m stages.demo make input/demo
	$(BIN)/python run_tracking.py --cfg configs/demo.yml
	$(BIN)/python -m stages.demo score input/demo output/demo

assets: install
	$(BIN)/python run_tracking.py assets

test: install-test
	$(BIN)/python -m pytest

lint: install-test
	$(BIN)/ruff check .

types: install-test
	$(BIN)/mypy

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

# A stamp says what was installed last; a changed pyproject.toml installs again.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@ $(VENV)/.installed
