# make solve         install into .venv, fetch the language model, and solve one bundled puzzle of each kind
# make test          install into .venv, lint, check types, and run the tests (fetches a small language model, 98 MB)
# make lint          check formatting and lint only
# make install       install into .venv only
# make test-servers  run the tests against llama.cpp's server, which is compiled first
# make audit         list known vulnerabilities and licences of everything in .venv
# make clean         remove .venv and what building left
#
# PYTHON is the interpreter that .venv is made with (3.11 or later). ARGS is passed on to `hybrid solve`.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: solve test test-servers lint install audit clean
.DEFAULT_GOAL := solve

# Exit 1 is an answer too: some puzzles stayed unsolved. Without a puzzle named, piped standard input would be
# read; here the samples are meant.
solve: $(STAMP)
	-$(BIN)/hybrid pull qwen
	$(BIN)/hybrid solve --llm qwen --refiner ckpt/trm.pt $(ARGS) < /dev/null || [ $$? -eq 1 ]

# A process a core, with one thread each: more threads than cores wait for each other by spinning.
test: export OMP_NUM_THREADS ?= 1
test: export OMP_WAIT_POLICY ?= PASSIVE
test: lint
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# Against llama.cpp's server too, which takes minutes to compile.
test-servers: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt 'llama-cpp-python[server]'
	$(BIN)/pytest -m llama tests/hybrid/llm/test_real_servers.py

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

install: $(STAMP)

# The tools have an environment of their own, so that they are not among what they look at.
audit: $(STAMP)
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --disable-pip-version-check --quiet pip-audit==2.10.1 pip-licenses==5.5.5
	.venv/audit/bin/python tests/tools/audit.py $(BIN)/python

# Touched last, so that an installation cut short is taken up again. The warning silenced is of folders named as
# packages are, which is what an editable installation is about.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,report,serve]'
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"Python {v}, expected 3.11 or later: make PYTHON=...")'
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist *.egg-info
