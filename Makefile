# Two commands: `make demo` audits a sample model, `make test` runs lint, types and tests.
# Both make .venv if it is missing. Another torch (for a GPU, say): make demo TORCH='torch==2.11.0'
PYTHON ?= python3
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types bench coverage sample-models clean

demo: $(VENV)/.installed
	$(BIN)/spectral-audit score sample_models/mnist_cnn_relu.safetensors

test: lint types
	$(BIN)/python -m pytest

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	$(BIN)/mypy

bench: $(VENV)/.tested
	$(BIN)/python benchmarks/ntk.py --output docs/benchmarks.md

# Needs an npz with MNIST's test images: make coverage DATA=mnist.npz
coverage: $(VENV)/.installed
	$(BIN)/python studies/coverage.py --data $(DATA) --output docs/intervals.md

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

clean:
	rm -rf $(VENV) build *.egg-info
