# What a person types: every target builds .venv from requirements.lock when it is missing or older (about 7 GB).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DATA ?= ../shared/data/medical/brain_mri_lgg
HIPPOCAMPUS ?= ../shared/data/medical/hippocampus_mri
XRAYS ?= ../shared/data/medical/chest_xray_nih
ROADS ?= ../shared/data/driving/camvid

.PHONY: install demo test test-slow check docs study study-objectives bench

demo: $(INSTALLED)
	$(BIN)/selfsight demo medical

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

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

# The published tables (docs/benchmarks.md); killed and started again, it goes on. `make study DATA=my/` for your own.
study: $(INSTALLED)
	$(BIN)/selfsight study brain_tumor $(DATA) --label-budgets 0,3,10,30 --set finetune.steps=400
	$(BIN)/selfsight study brain_tumor $(DATA) --arms scratch,proposals --label-budgets 3,10,30 --set finetune.steps=800
	$(BIN)/selfsight study hippocampus $(HIPPOCAMPUS) --label-budgets 1,5,20 --set finetune.steps=300

# Which objective for which data: each behind a frozen encoder first, then the best with folds and full fine-tuning.
SHORT := --set pretrain.steps=200
study-objectives: $(INSTALLED)
	$(BIN)/selfsight study chest_xray $(XRAYS) --screen --label-budgets 40,360 $(SHORT) --set finetune.steps=150
	$(BIN)/selfsight study road_scene $(ROADS) --screen --label-budgets 20 $(SHORT) --set finetune.steps=200
	$(BIN)/selfsight study hippocampus $(HIPPOCAMPUS) --screen --label-budgets 5 --set finetune.steps=300
	$(BIN)/selfsight study chest_xray $(XRAYS) --arms "view + age + sex,scratch,simclr,jigsaw" --label-budgets 10,40,360 \
		--robustness $(SHORT) --set finetune.steps=150
	$(BIN)/selfsight study chest_xray $(XRAYS) --arms "view + age + sex,scratch,simclr" --label-budgets 10,40,360 --draws 2 \
		$(SHORT) --set finetune.steps=150
	$(BIN)/selfsight study road_scene $(ROADS) --arms "sky over buildings over road,scratch,mae" --label-budgets 5,20,100 \
		$(SHORT) --set finetune.steps=600
	$(BIN)/selfsight study hippocampus $(HIPPOCAMPUS) --arms scratch,mae --label-budgets 5 --robustness --set finetune.steps=300
	$(BIN)/selfsight study hippocampus $(HIPPOCAMPUS) --arms scratch,mae --label-budgets 5 --set size=small --set finetune.steps=300
	SELFSIGHT_LONGER=5 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/ssl_models/objectives -k learn -s  # long learning tests

bench: $(INSTALLED)
	@$(BIN)/python tests/benchmarks/run_all.py

$(INSTALLED): requirements.lock pyproject.toml
	@echo "installing requirements.lock into .venv: about 7 GB on disk"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
