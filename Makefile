# Two commands: `make demo` audits a sample model, `make test` runs lint, types and tests.
# Both make .venv if it is missing. Another torch (for a GPU, say): make demo TORCH='torch==2.11.0'
PYTHON ?= python3
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench

.PHONY: demo test lint types bench coverage growth fuzz batch-study gates penalties penalty-costs validity sample-models clean

demo: $(VENV)/.installed
	$(BIN)/spectral-audit score sample_models/mnist_cnn_relu.safetensors

# One thread each: several processes whose threads wait for each other would take far longer.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	$(BIN)/mypy

# make bench WORKS='ntk jacobian' ROUNDS=3: a part of it. Works: ntk jacobian hessian trace density attribution score.
# Records stay in build/benchmarks: a run goes on where the last one stopped; FLAGS=--fresh starts again.
WORKS ?=
ROUNDS ?= 3
FLAGS ?=
bench: $(PEERS)/.installed
	$(PEERS)/bin/python -m benchmarks $(if $(WORKS),--works $(WORKS)) --rounds $(ROUNDS) $(FLAGS) --output docs/benchmarks.md

# Needs an npz with MNIST's test images: make coverage DATA=mnist.npz
coverage: $(VENV)/.installed
	$(BIN)/python studies/coverage.py --data $(DATA) --output docs/intervals.md

growth: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) --editable '.[studies]'
	$(BIN)/python studies/growth.py --output docs/growth.md

CASES ?= 20000
fuzz: $(VENV)/.tested
	$(BIN)/python studies/fuzz.py --cases $(CASES) --output docs/fuzzing.md

batch-study: $(VENV)/.installed
	$(BIN)/python studies/batch.py --output docs/batch.md

gates: $(VENV)/.installed
	$(BIN)/spectral-audit score sample_models/mnist_cnn_relu.safetensors --n 300 --output build/pool
	$(BIN)/python studies/gates.py build/pool/report.json --output docs/gates.md

# Needs a folder with mnist.npz, cifar10.npz and cifar100.npz: make penalties DATA=folder
penalties: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) --editable '.[studies]'
	OMP_NUM_THREADS=1 $(BIN)/python studies/penalties.py --data $(DATA) --output docs/penalties.md

penalty-costs: $(VENV)/.installed
	$(BIN)/python studies/penalty_costs.py --output docs/regularizers.md

# The folder holds mnist.npz and cifar10.npz. About 25 minutes of one free core; JOBS=2 for two processes. Records stay in
# build/validity: a run goes on where the last one stopped.
JOBS ?= 1
validity: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) --editable '.[studies]'
	$(BIN)/python -m studies.validity --data $(DATA) --jobs $(JOBS) --pages docs --population spectral_audit/population/reference.json

sample-models: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) --editable '.[train]'
	$(BIN)/python sample_models/train.py

# torch first and pinned: the plain range would bring several GB of CUDA packages.
PIN := $(if $(TORCH),'$(TORCH)',--constraint constraints.txt)

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIN) --editable '.[dev]'
	touch $@

# Peers for the benchmarks, in an environment of their own; torch first, as everywhere. They need Python 3.11.
$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--requirement benchmarks/requirements.txt --editable .
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build *.egg-info
