# make fit GPU=H100 fits a GPU; make test runs the tests; the other targets are named in the README.
PYTHON ?= python3
GPU ?= H100
VENV := .venv
BIN := $(VENV)/bin
CAMPAIGN_GPUS := H100 H200 L40S B200 B300 GB200 GB300 RTX-PRO-6000-Server
INFERENCEMAX_GPUS := H100 H200
INFERENCEMAX_STYLE := H100/sglang-0.5.1.post1 H100/tensorrt-llm-1.0.0rc3 H100/vllm-0.12.0 H200/sglang-0.5.6.post2 H200/vllm-0.12.0
INFERENCEMAX_2026 := H100/2026 H200/2026 B200/all B300/all
STYLE_2026 := H100/2026 H200/2026 B200/all GB200/all

.DEFAULT_GOAL := help
.PHONY: help setup fit test test-slow check check-lowest fuzz faults release-check accuracy kinds mixed transfer scoreboard bench bench-cpu campaigns aisimulate docs clean

help:
	@echo "make fit GPU=H100   fit a GPU to its campaigns, write the report, update the configuration"
	@echo "make test           run the tests that take seconds"
	@echo "make test-slow      run the others: whole fits, known truths, examples of the documentation"
	@echo "make setup          make .venv and install calibrate in it"
	@echo "make check          ruff, mypy, and the direction of imports"
	@echo "make check-lowest   the tests with the oldest versions of all dependencies that pyproject.toml allows"
	@echo "make release-check  build wheel and sdist, install each apart, run the quick start, audit; MINORS='11 13' for some Pythons"
	@echo "make faults         kill commands, crowd them, fill their disk; KILLS=30 ROUNDS=2 is a tenth of it"
	@echo "make accuracy       print the accuracy of every latency model on every data set, write docs/accuracy.md"
	@echo "make kinds          roofline-v4 on models of every kind and nine GPUs, docs/kinds.json, five minutes"
	@echo "make mixed          roofline-v4 on prompts beside decodes, and from those kernels to a server, docs/mixed.json"
	@echo "make transfer       each shipped GPU from the others, and with five points of its own, docs/transfer.json"
	@echo "make scoreboard     public servers, untuned and tuned, docs/scoreboard.md and .json"
	@echo "make fuzz           damage good files in CASES=20000 ways, SEED=0, and try every reader on them, on JOBS processes"
	@echo "make bench          benchmarks of the simulation core and of whole fits"
	@echo "make bench-cpu      measure this machine's processor, fit it, write a report into reports/bench-cpu"
	@echo "make campaigns      make the shipped campaigns again from aiconfigurator-core"
	@echo "make aisimulate     exported step tables in NVIDIA's engine, and in aisimulate where it can be fetched"
	@echo "make docs           the documentation site, its examples run: docs/_build/html/index.html"
	@echo "make clean          remove .venv and what tools left behind"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("calibrate needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-release: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test,release]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-silicon: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[silicon]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@ $(VENV)/.installed

setup: $(VENV)/.installed

fit: $(VENV)/.installed
	$(BIN)/calibrate fit --gpu $(GPU)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

LOWEST := .venv-lowest

# uv asks the index that pip asks
check-lowest: $(BIN)/python
	$(BIN)/python -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	index=$$($(LOWEST)/bin/python -m pip config list | sed -n "s/^.*[.]index-url='\(.*\)'$$/\1/p" | tail -n 1); \
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python $${index:+--default-index "$$index"} \
	  --resolution lowest-direct --editable '.[test]'
	$(LOWEST)/bin/python -m pytest -n auto --dist worksteal

MINORS := 11 12 13 14

release-check: $(VENV)/.installed-release
	$(BIN)/python -m tests.release --minors $(MINORS)

KILLS := 300
ROUNDS := 20

faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults --kills $(KILLS) --rounds $(ROUNDS)

accuracy: $(VENV)/.installed
	$(BIN)/python -m benchmarks.accuracy

CASES := 20000
SEED := 0
JOBS := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases $(CASES) --seed $(SEED) --jobs $(JOBS)

kinds: $(VENV)/.installed
	$(BIN)/python -m benchmarks.kinds

mixed: $(VENV)/.installed
	$(BIN)/python -m benchmarks.mixed

transfer: $(VENV)/.installed
	$(BIN)/python -m benchmarks.transfer

scoreboard: $(VENV)/.installed
	$(BIN)/python -m benchmarks.scoreboard

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest benchmarks -s --benchmark-enable --benchmark-columns=min,median,max,rounds --benchmark-sort=name

CPU_BENCH := reports/bench-cpu

bench-cpu: $(VENV)/.installed-bench # one thread: a laptop's other work then stalls no thread that another waits for
	$(BIN)/calibrate bench all --gpu CPU --device cpu --threads 1 --small --out $(CPU_BENCH)/ground_truth/CPU/bench
	cp $(CPU_BENCH)/ground_truth/CPU/bench/hardware_config.json $(CPU_BENCH)/hardware_config.json
	$(BIN)/calibrate fit --gpu CPU --ground-truth $(CPU_BENCH)/ground_truth \
	  --hardware-config $(CPU_BENCH)/hardware_config.json --out $(CPU_BENCH) --force # its own copy: nobody plans with it

campaigns: $(VENV)/.installed-silicon
	for gpu in $(CAMPAIGN_GPUS); do \
	  $(BIN)/calibrate import aiconfigurator package --gpu $$gpu --campaign aiconfigurator-vllm-0.24.0 --force || exit 1; \
	done
	$(BIN)/calibrate import aiconfigurator package --gpu A100-SXM --campaign aiconfigurator-vllm-0.14.0 --force
	for gpu in $(CAMPAIGN_GPUS); do \
	  $(BIN)/calibrate import aiconfigurator package --models 2026 --gpu $$gpu --campaign aiconfigurator-vllm-0.24.0-2026 --force || exit 1; \
	done
	$(BIN)/calibrate import aiconfigurator package --models 2026 --gpu A100-SXM --campaign aiconfigurator-vllm-0.14.0-2026 --force
	gzip --best --no-name --force ground_truth/*/*-2026/steps.csv
	for gpu in $(INFERENCEMAX_GPUS); do \
	  $(BIN)/calibrate import inferencemax package --gpu $$gpu --campaign inferencemax-2025-10-29 --force || exit 1; \
	done
	for at in $(INFERENCEMAX_STYLE); do \
	  $(BIN)/calibrate import inferencemax-style package:$${at#*/} --gpu $${at%%/*} --campaign inferencemax-style-$${at#*/} --force || exit 1; \
	done
	for at in $(INFERENCEMAX_2026); do \
	  $(BIN)/calibrate import inferencemax package --models $${at#*/} --gpu $${at%%/*} --campaign inferencemax-2026-04-27-2026 --force || exit 1; \
	done
	for at in $(STYLE_2026); do \
	  $(BIN)/calibrate import inferencemax-style package:all --models $${at#*/} --gpu $${at%%/*} --campaign inferencemax-style-2026 --force || exit 1; \
	done

AISIMULATE := .venv-aisimulate

# aisimulate brings an engine of its own, which would take the other's place
aisimulate: $(VENV)/.installed-dev $(VENV)/.installed-silicon
	$(BIN)/python -m pytest -q -rs tests/calibrate/test_export_aisimulate.py
	$(BIN)/python -m venv --clear $(AISIMULATE)
	$(AISIMULATE)/bin/python -m pip install --quiet --editable '.[test,aisimulate]'
	$(AISIMULATE)/bin/python -m pytest -q -rs tests/calibrate/test_export_aisimulate.py

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

clean:
	rm -rf $(VENV) $(LOWEST) $(AISIMULATE) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks *.egg-info docs/_build docs/auto_gallery docs/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
