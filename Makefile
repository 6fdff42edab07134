# make demo     create .venv, train three losses on the embedded digits, write a table, figures and a page
# make test     create .venv, run every check
# make site     build the documentation into site/; warnings are errors
# make bench    measure the speed again and rebuild docs/performance.md (10 to 20 minutes)
# make oldest   run the tests of the library with the oldest supported PyTorch, in .oldest
# make fuzz     random command lines, library calls, damaged run folders and odd image folders
# make faults   a kill and a full disk at every file operation of train, resume, compare and report
# Parts of `make test`: setup format lint types site, and check (unit and docs together).

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
OLDEST := .oldest/bin
# A process that has finished its tests takes over half of those that another one has left.
PROCESSES := -n auto --maxprocesses 4 --dist worksteal
# The tests start about a hundred processes. They share compiled bytecode, also where the
# environment turns it off.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test setup format lint types unit docs check site bench fuzz faults oldest

demo: $(READY)
	$(BIN)/ccloss compare --data digits --losses ce,ce+cam,cc --rounds 3 --out runs/demo

test: format lint types site check

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
	$(BIN)/pytest -rs $(PROCESSES) --ignore tests/documentation

check: $(READY)
	$(BIN)/pytest -rs $(PROCESSES) --durations 15

docs: $(READY)
	$(BIN)/pytest -rs --doctest-modules src tests/documentation

site: $(READY)
	$(BIN)/python docs/build_site.py

fuzz: $(READY)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seed 0 \
		--commands 2000 --calls 3000 --folders 500 --images 300

faults: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/faults.py

bench: $(READY)
	OMP_NUM_THREADS=2 PYTHON=$(BIN)/python sh benchmarks/run.sh

oldest: $(OLDEST)/python
	PYTHONPATH=src $(OLDEST)/python -m pytest -q -p no:cacheprovider -o filterwarnings=default \
		tests/test_functional.py tests/losses tests/models

$(OLDEST)/python:
	$(PYTHON) -m venv .oldest
	$(OLDEST)/python -m pip install --quiet --disable-pip-version-check \
		"torch==2.4.*" "torchvision==0.19.*" "timm>=1.0.15" hypothesis pytest
