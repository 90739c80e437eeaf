# make demo   set up and run the main job on embedded data
# make test   set up and run every check and test (what CI runs)
# make check  ruff, mypy, import-linter and pytest in the environment that is there
# make quick  the tests without the slow ones

PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/compare_rules-$(shell date +%Y%m%d-%H%M%S)
BIN := $(VENV)/bin

.PHONY: demo test check quick clean

demo: $(VENV)/.installed
	$(BIN)/neurossl run compare_rules --out $(OUT)

test: $(VENV)/.installed-test
	$(MAKE) check

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick:
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'neurossl needs Python 3.11 or newer: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[simulate]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[simulate,test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
