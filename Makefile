# `make demo`: from a fresh clone to controlled text. `make test`: every check. `make docs`: the site. All need Python 3.11 and make,
# nothing else.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

# PyPI's torch for Linux brings gigabytes of CUDA that nothing here uses. Where torch's own index can be reached,
# `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo` takes the same version without them.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test typecheck pytest docs clean

demo: $(VENV)/.installed
	$(BIN)/dlm generate examples/coffee.yaml

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory -j2 typecheck pytest

# Side by side in `make test`: the type check has one process, the tests have two.
typecheck: $(VENV)/.installed-dev
	$(BIN)/python tools/typecheck

pytest: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

# Into build/site; a link or a name that leads nowhere stops it.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than what it was installed from, so a second run installs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.installed
