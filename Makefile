# make demo: set-up and the whole pipeline on an embedded data set. make test: set-up and tests. make docs: the site, into site/.
VENV ?= .venv
export VENV
PY := $(VENV)/bin/python
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test fuzz lint docs

setup:
	@./bootstrap.sh

demo: setup
	rm -rf runs/demo runs/demo-static
	$(PY) train/run.py -c conf/digits-spikformer.yml --output runs/demo-static
	$(PY) convert/export.py runs/demo-static
	$(PY) deploy/run.py runs/demo-static --data test --target int
	$(PY) train/run.py -c conf/digits-stas.yml --output runs/demo
	$(PY) convert/export.py runs/demo
	$(PY) deploy/run.py runs/demo --data test --target int --halt off
	$(PY) deploy/run.py runs/demo --data test --target lava --trace
	$(PY) deploy/compare.py runs/demo --data test:64
	$(PY) hw_sim/estimate.py runs/demo --static runs/demo-static
	$(PY) hw_sim/report.py runs/demo runs/demo-static

test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest

# Changed files for every reader (docs/reliability.md); CASES=100000 for a campaign.
fuzz: setup
	OMP_NUM_THREADS=1 $(PY) tests/fuzz/run.py --cases $(or $(CASES),3000)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy spikegate

# Strict, without network; executes the notebooks (NOTEBOOKS=show leaves them as they are).
docs: setup
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(PY) -m mkdocs build --strict --quiet
