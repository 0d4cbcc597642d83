# Everything a newcomer needs: `make demo` shows the main job, `make test` proves it. Both set themselves up.
.PHONY: help venv demo test test-all test-scripts test-postgres test-containers test-clearml test-frameworks test-lab test-faults test-evals test-hud check lint types imports format bench requirements clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help:
	@echo "make demo           run the main job once, from nothing to two finished tasks"
	@echo "make test           the everyday tests"
	@echo "make test-scripts   scripts of the everyday frameworks, recorded, cloned, edited, run by a worker"
	@echo "make test-postgres  the store contracts against a real PostgreSQL"
	@echo "make test-containers  the provider contract and workers in a real podman"
	@echo "make test-clearml   ClearML's unmodified clients and agent against our server"
	@echo "make test-frameworks  the heavy frameworks: torch, Lightning, TensorFlow, Keras, CatBoost, fastai, transformers"
	@echo "make test-lab       scripts that use Transformer Lab's unmodified package, under our worker"
	@echo "make test-faults    workers killed, cut off and started again at every point of an attempt"
	@echo "make test-evals     whole evaluations: environments in processes of their own, the commands, Ctrl-C"
	@echo "make test-hud       the unmodified hud package on either side of the control channel, and against our server"
	@echo "make check          format, lint, strict types, import rules"
	@echo "make bench          Taskloom beside its peers, as ratios"

$(STAMP): pyproject.toml requirements/dev.txt
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(STAMP)

venv: $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not faults and not evals and not hud and not postgres and not clearml and not scripts and not frameworks and not lab and not containers"

test-scripts: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "scripts and not frameworks" tests/frameworks

test-postgres: $(STAMP)
	tests/postgres.sh $(BIN)/python -m pytest -m postgres

# In podman, which tests/containers.sh installs where it is missing: no test of this kind is skipped.
test-containers: $(STAMP)
	tests/containers.sh $(BIN)/python -m pytest -n 2 --dist loadfile -m containers

CLEARML_VENV := .venv-clearml
CLEARML_STAMP := $(CLEARML_VENV)/.installed

$(CLEARML_STAMP): requirements/clearml.txt
	python3 -m venv $(CLEARML_VENV)
	$(CLEARML_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements/clearml.txt
	touch $(CLEARML_STAMP)

CLEARML_OLDER_VENV := .venv-clearml-older
CLEARML_OLDER_STAMP := $(CLEARML_OLDER_VENV)/.installed

$(CLEARML_OLDER_STAMP): requirements/clearml-older.txt
	python3 -m venv $(CLEARML_OLDER_VENV)
	$(CLEARML_OLDER_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements/clearml-older.txt
	touch $(CLEARML_OLDER_STAMP)

test-clearml: $(STAMP) $(CLEARML_STAMP) $(CLEARML_OLDER_STAMP)
	TASKLOOM_TEST_CLEARML=$(CURDIR)/$(CLEARML_VENV)/bin/python \
	TASKLOOM_TEST_CLEARML_OLDER=$(CURDIR)/$(CLEARML_OLDER_VENV)/bin/python $(BIN)/python -m pytest -n 2 --dist loadfile -m clearml

# What torch names for GPUs, and torch itself: torch.txt has its build for CPUs. torchvision has none there, so that
# nothing may ask for it.
GPU_PACKAGES := torch torchvision triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver \
	nvidia-cuda-cccl nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
FRAMEWORKS_VENV := .venv-frameworks
FRAMEWORKS_STAMP := $(FRAMEWORKS_VENV)/.installed

$(FRAMEWORKS_STAMP): pyproject.toml requirements/frameworks.txt requirements/torch.txt
	python3 -m venv $(FRAMEWORKS_VENV)
	$(FRAMEWORKS_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/torch.txt \
		|| echo "torch's build for CPUs is not to be had here: tests that need torch are skipped"
	$(FRAMEWORKS_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/frameworks.txt
	$(FRAMEWORKS_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(FRAMEWORKS_STAMP)

test-frameworks: $(STAMP) $(FRAMEWORKS_STAMP)
	TASKLOOM_TEST_FRAMEWORKS=$(CURDIR)/$(FRAMEWORKS_VENV)/bin/python $(BIN)/python -m pytest -n 2 --dist loadfile -m frameworks

LAB_VENV := .venv-lab
LAB_STAMP := $(LAB_VENV)/.installed

$(LAB_STAMP): requirements/lab.txt
	python3 -m venv $(LAB_VENV)
	$(LAB_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements/lab.txt
	touch $(LAB_STAMP)

test-lab: $(STAMP) $(LAB_STAMP)
	TASKLOOM_TEST_LAB=$(CURDIR)/$(LAB_VENV)/bin/python $(BIN)/python -m pytest -n 2 --dist loadfile -m lab

test-faults: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m faults

# With bubblewrap, which tests/sandbox.sh installs where it is missing: no test of a sandbox is skipped.
test-evals: $(STAMP)
	tests/sandbox.sh $(BIN)/python -m pytest -n 2 --dist loadfile -m "evals and not containers"

HUD_VENV := .venv-hud
HUD_STAMP := $(HUD_VENV)/.installed

$(HUD_STAMP): requirements/hud.txt
	python3 -m venv $(HUD_VENV)
	$(HUD_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements/hud.txt
	touch $(HUD_STAMP)

test-hud: $(STAMP) $(HUD_STAMP)
	TASKLOOM_TEST_HUD=$(CURDIR)/$(HUD_VENV)/bin/python tests/sandbox.sh $(BIN)/python -m pytest -n 2 --dist loadfile -m hud

test-all: test test-scripts test-postgres test-containers test-clearml test-frameworks test-lab test-faults test-evals test-hud

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)
	benchmarks/run.sh

requirements: $(STAMP)
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 --extra server --extra postgres --extra cloud --extra evals -o requirements/dev.txt pyproject.toml requirements/dev.in
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 $(addprefix --no-emit-package ,$(GPU_PACKAGES)) -o requirements/frameworks.txt pyproject.toml requirements/frameworks.in
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements/clearml.txt requirements/clearml.in
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements/clearml-older.txt requirements/clearml-older.in
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements/lab.txt requirements/lab.in
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 -o requirements/hud.txt requirements/hud.in

clean:
	rm -rf $(VENV) $(FRAMEWORKS_VENV) $(CLEARML_VENV) $(CLEARML_OLDER_VENV) $(LAB_VENV) $(HUD_VENV) .demo

docs: $(STAMP)
	$(BIN)/python docs/generate.py
.PHONY: docs
