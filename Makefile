# make run    set up, then the main job: DSEE on MiniLM and the embedded docstrings (about 5 minutes)
# make test   set up, then the tests (about 25 minutes on 2 cores; Slurm and Chromium if they are there)
# make check  lint, format, types, and every choice in conf/ composes
# make format put the code into the house's form
# make docs   the documentation's code blocks and links hold
# make clean  remove what set-up and tools left (not outputs/)
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: run test check format docs clean

run: $(READY)
	$(BIN)/gossamer model=minilm dataset=docstrings compression=dsee

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/check_configs.py

docs: $(READY)
	$(BIN)/python -m pytest tests/docs

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	PYTHON="$(PYTHON)" sh scripts/setup.sh
	touch $(READY)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
