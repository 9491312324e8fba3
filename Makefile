# Everything sets itself up: `make demo` and `make test` work in a fresh clone. See `make help`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := outputs/demo
TRACKS := $(DEMO)/puppets/stems/stage-simple-1-000011
FEW := assets/puppets_few
SMOKE := outputs/ablation_smoke
PROMPT := One person conversation. Person1: a woman in a red shirt on the left. Person1 is speaking. \
  Scene description: a big yellow bell rings twice under a warm bright light.
WORKERS ?= 2
WHEELS ?= wheels
GPU_OUTPUT ?= outputs/gpu
TORCH := torch>=2.11,<2.14

# DeepSpeed's launcher and torch's compiler look for their tools on the PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup perception browser app test test-long gpu fuzz crash check format docs demo ablation-smoke clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## create .venv and install everything (done by the others when needed)

# Pins come from constraints.txt. With an NVIDIA GPU the pin of torch becomes the range that was tested with this
# torchaudio, so that pip takes its newest build with CUDA; without one the pin stands: it also selects a CPU build
# where pip is offered one.
$(READY): pyproject.toml constraints.txt shared/utils/environment.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(VENV) has $$($(BIN)/python -V); Python 3.11 or newer is needed:" \
	    "make clean setup PYTHON=python3.11"; exit 2; }
	@if nvidia-smi -L >/dev/null 2>&1; then \
	  echo "setup: NVIDIA GPU found, taking the newest torch with CUDA of $(TORCH)"; \
	  sed 's/^torch==.*/$(TORCH)/' constraints.txt > $(VENV)/constraints.txt; \
	else \
	  echo "setup: no NVIDIA GPU found, taking $$(grep '^torch==' constraints.txt)"; \
	  cp constraints.txt $(VENV)/constraints.txt; \
	fi
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[dev,curation,app]'
	$(BIN)/python -m shared.utils.environment
	@touch $@

perception: setup  ## install models that judge faces, voices and words in real clips (docs/perception.md)
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[perception]'
	$(BIN)/python -m shared.perception.install
	$(BIN)/python -m pip check

# Debian's; without it the tests of pages are skipped, and say so.
browser:  ## install Chromium for the tests of pages, where apt-get is at hand and this is root
	@if command -v chromium >/dev/null; then chromium --version 2>/dev/null; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else echo "browser: no Chromium, and no apt-get as root: tests of pages will be skipped"; fi

app: setup  ## open the page in the browser (docs/app.md); ARGS="--port 8080" and others
	$(BIN)/python scripts/app.py $(ARGS)

PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test: setup  ## run the tests, but the slow ones
	$(PYTEST) -m "not slow" --durations=40

test-long: setup  ## run the slow tests
	$(PYTEST) -m slow

# Without setup, which wants a network: the environment, if it is there, or else the Python of the machine, with what is
# in wheels/ beside it (docs/performance.md, "GPU").
gpu:  ## measure what one NVIDIA GPU can do, seven minutes; ARGS=--tiny checks that without one
	@if ls $(WHEELS)/*.whl >/dev/null 2>&1; then $(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade \
	  --target $(WHEELS)/site $(WHEELS)/*.whl; fi
	PYTHONPATH=$(CURDIR):$(CURDIR)/$(WHEELS)/site HF_HUB_OFFLINE=1 \
	  $$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) scripts/gpu.py --output $(GPU_OUTPUT) $(ARGS)

fuzz: setup  ## give 2,000 damaged files to the commands that read them
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/fuzz/fuzz.py --files 2000 --processes $(WORKERS)

check: setup  ## lint, format, types and the rule of arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## sort imports and format the code
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

crash: setup  ## interrupt a hundred small trainings at a write: each must go on to the same bits (half an hour)
	$(BIN)/python tests/crash/crash.py --cases 100

docs: setup  ## make the tables in docs/ from code and scores
	$(BIN)/python scripts/doc_tables.py

# A thread that waits by spinning slows the other core down: OMP_WAIT_POLICY.
demo: export OMP_WAIT_POLICY := PASSIVE
demo: setup  ## make clips, train a little, sample from the shipped and from the new checkpoint
	rm -rf $(DEMO)
	$(BIN)/python scripts/make_puppets.py --clips 64 --output $(DEMO)/puppets --seed 1 --level simple
	$(BIN)/deepspeed scripts/train_ccl.py --config configs/train/puppets_tiny.yaml \
	  --set data.manifest=$(DEMO)/puppets/manifest.jsonl --set output=$(DEMO)/train
	$(BIN)/python scripts/sample_joint.py --checkpoint $(FEW) --prompt "$(PROMPT)" --seed 1 \
	  --output $(DEMO)/shipped.mp4
	$(BIN)/python scripts/sample_joint.py --checkpoint $(DEMO)/train/checkpoint \
	  --prompt "$(PROMPT)" --seed 1 --output $(DEMO)/trained.mp4
	$(BIN)/python scripts/sample_mtv.py --checkpoint $(FEW) --prompt "$(PROMPT)" --seed 1 \
	  --output $(DEMO)/driven.mp4 --speech $(TRACKS).speech1.wav --effects $(TRACKS).effects.wav --music $(TRACKS).music.wav
	@echo
	@echo "from the shipped checkpoint:   $(DEMO)/shipped.mp4    its metrics: $(FEW)/metrics.json"
	@echo "the same, driven by tracks:    $(DEMO)/driven.mp4"
	@echo "from the one just trained:     $(DEMO)/trained.mp4    its losses:  $(DEMO)/train/losses.csv"
	@echo "(the second saw a few dozen steps: it shows that training works, not what it leads to)"

ablation-smoke: setup  ## run the smallest ablation, from its clips to its report
	rm -rf $(SMOKE)
	$(BIN)/python scripts/ablate.py --plan configs/ablation/smoke.yaml --output $(SMOKE)

clean:  ## remove the environment and caches; data/ and outputs/ stay
	rm -rf $(VENV) *.egg-info build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
