# Two commands matter: `make tables` and `make test`. Both make the environment first.
# PYTHON may name any interpreter from 3.11 to 3.13.

PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
READY  := $(VENV)/ready
BENCH  := .venv-bench
UV     := 0.9

export PATH := $(BIN):$(PATH)

.PHONY: help tables figures report matrix test slurm chaos fuzz lint format bench lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

tables: $(READY)  ## from sky images to the paper's tables, in results/tables
	snakemake --cores all results/tables

figures: $(READY)  ## the paper's figures, in results/figures
	snakemake --cores all results/figures

report: $(READY)  ## tables and figures with captions in one page, results/report.html
	snakemake --cores all
	snakemake --report results/report.html

matrix: $(READY)  ## every encoder of the paper in miniature, in matrix/results; 40 minutes
	snakemake --cores all --directory matrix --configfile workflow/config/matrix.yaml

test: $(READY)  ## every check: lint, types, unit tests, the whole small workflow
	pytest

slurm: $(READY)  ## the small workflow on a real one-node Slurm, which it starts and stops
	pytest -v tests/slurm

# ARGUMENTS="--seed 7" draws other faults; see python -m tests.chaos --help.
chaos: $(READY)  ## 50 random faults over the small workflow, and the same tables after them
	python -m tests.chaos $(ARGUMENTS)

fuzz: $(READY)  ## thousands of broken FITS files, each within bounds of memory and time
	python -m tests.fuzz $(ARGUMENTS)

lint: $(READY)  ## ruff, mypy, snakefmt, snakemake --lint
	pytest tests/workflow/test_style.py

format: $(READY)  ## rewrite sources in the project's style
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# NAMES="probe --rounds 5" measures one benchmark only; see python -m benchmarks --help.
bench: $(BENCH)/ready  ## speed beside peers, into docs/performance.md; about 20 minutes
	$(BENCH)/bin/python -m benchmarks $(NAMES)

lock: $(READY)  ## resolve requirements.lock anew
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --group dev pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --group dev --group bench -c requirements.lock pyproject.toml -o benchmarks/requirements.lock

clean:  ## remove the environments; results stay
	rm -rf $(VENV) $(BENCH)

# The stamp makes an environment once, and again when its lock changes. Bytecode is compiled now:
# the workflow starts dozens of processes, and some machines forbid writing it later.
$(READY): requirements.lock pyproject.toml
	$(call environment,$(VENV),$<)

$(BENCH)/ready: benchmarks/requirements.lock pyproject.toml
	$(call environment,$(BENCH),$<)

define environment
$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
    "stradavit needs Python 3.11 to 3.13, found " + sys.version.split()[0] + \
    "; run: make PYTHON=/path/to/python3.12 " + "tables")'
$(PYTHON) -m venv $(1)
$(1)/bin/pip install --quiet --disable-pip-version-check 'uv>=$(UV)'
$(1)/bin/uv pip install --quiet --python $(1)/bin/python --require-hashes --compile-bytecode \
    -r $(2)
$(1)/bin/uv pip install --quiet --python $(1)/bin/python --no-deps --no-build-isolation -e .
$(1)/bin/python -m compileall -q stradavit
touch $@
endef
