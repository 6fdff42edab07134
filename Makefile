# make demo   sets up, trains three losses on the embedded digits, ends in a table, figures, a page
# make test   sets up, runs every check
# What they are made of can be called by itself: setup format lint types unit docs.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test setup format lint types unit docs

demo: $(READY)
	$(BIN)/ccloss compare --data digits --losses ce,ce+cam,cc --rounds 3 --out runs/demo

test: format lint types unit docs

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest -rs -n auto --maxprocesses 4 --dist loadscope --ignore tests/documentation

docs: $(READY)
	$(BIN)/pytest --doctest-modules src tests/documentation
