# What a person types: every target builds .venv from requirements.lock when it is missing or older (about 7 GB).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DATA ?= ../shared/data/medical/brain_mri_lgg

.PHONY: install demo test test-slow check docs study bench

demo: $(INSTALLED)
	$(BIN)/selfsight demo medical

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

install: $(INSTALLED)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/python tests/cli_reference.py > docs/cli.md
	$(BIN)/python tests/readme_map.py

# Every verb on a labelled folder: `make study DATA=my/`.
study: $(INSTALLED)
	$(BIN)/selfsight run brain_tumor $(DATA)

bench: $(INSTALLED)
	@$(BIN)/python tests/benchmarks/run_all.py

$(INSTALLED): requirements.lock pyproject.toml
	@echo "installing requirements.lock into .venv: about 7 GB on disk"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
