# make demo          the whole main job on this machine, real parts, about four minutes after the download
# make demo KEEP=1   the same, and the console and the devices stay up
# make test          every test (WORKERS=0: one after the other)
# make test-postgres  the server's tests again, on a PostgreSQL that they start (Debian's package), but those that ask both in every run
# make frameworks    TensorFlow, PyTorch and MLflow beside the rest (3 GB), for the tests that run them
# make lint types    ruff, mypy --strict
# make benchmarks    every figure, as tables; on a machine that does nothing else
# make coverage      real models out of public packages: which convert, how well (downloads about 350 MB)
# make arm           an aarch64 Python in emulation below .arm/, for the tests that run models on ARM
# make test-arm      the core of the contracts' and the agent's tests in that emulation, a few minutes
# make tflite        the agent on the older tflite-runtime with numpy 1 below .tflite/, for the tests that ask it, and
#                    the contracts' tests in there
# make installed     the agent as deploy/install.sh installs it, in a folder of its own, asked how it is
# make fuzz          the server's API asked by a fuzzer for minutes, as everybody; FUZZ_EXAMPLES=1000 FUZZ_SEED=7
# make walkthrough   every command of docs/deploy.md's walk-through: a TLS fleet of three devices, from nothing
# make clean         remove what the others made

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := agent contracts converter device-profiles fleet-server tests examples benchmarks

.PHONY: demo test test-postgres frameworks lint types benchmarks coverage arm test-arm tflite installed walkthrough fuzz clean

demo: $(VENV)/.demo
	$(BIN)/edge-fleet demo $(if $(KEEP),--keep)

# Most tests wait for processes: three at a time keep two cores busy. The tests of a file share servers and stay together.
WORKERS ?= 3
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

POSTGRES_TESTS := tests/fleet
test-postgres: $(VENV)/.dev
	EDGEFLEET_TEST_DATABASE=postgresql $(BIN)/python -m pytest $(POSTGRES_TESTS) $(PYTEST_ARGS)

frameworks: $(VENV)/.frameworks

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(VENV)/.dev
	$(BIN)/mypy

# conversion_* and arm_instructions need the models of the folder in EDGEFLEET_DATA and say so where it is missing
benchmarks: $(VENV)/.benchmarks
	for one in golden_gate conversion_quality compression_steps conversion_latency evidence_figures pruning search_over_time time_model conversion_cost arm_instructions int8_operators inference_overhead serving_latency isolation doubt_overhead label_memory batch_rate batch_forms memory start ingest_rate tick_cost window_cost beginning_cost console_pages false_halts faults soak soak_fleet; do \
	  $(BIN)/python benchmarks/$$one.py || exit 1; done
	$(BIN)/python benchmarks/telemetry_rate.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/drift_thresholds.py
	$(BIN)/python benchmarks/drift_detection.py

coverage: $(VENV)/.dev
	$(BIN)/python benchmarks/coverage.py

arm: .arm/bin/python-arm

# Named one by one: OpenVINO and some of the checkers' own packages have no aarch64 build, and tests that start a
# child process for each case take seconds each in emulation
ARM_SITE := .arm/tests
ARM_TESTS := $(patsubst %,tests/contracts/test_%.py,arrays bundle cose features golden_bundle keys messages npy pem profile signing topics trust) \
  $(patsubst %,tests/agent/inference/test_%.py,binding contract engine golden request_queue session source submit) \
  $(patsubst %,tests/agent/telemetry/test_%.py,downsample flight outbox outbox_acks outbox_bounds outbox_durability windows) \
  $(patsubst %,tests/agent/updates/test_%.py,assignment download health installer slots store) \
  $(patsubst %,tests/agent/drift/test_%.py,accuracy monitor schedule spread) \
  $(patsubst %,tests/agent/doubt/test_%.py,confidence honesty ladder routing)
test-arm: .arm/bin/python-arm
	rm -rf $(ARM_SITE)
	$(PIP) wheel --no-deps --wheel-dir $(ARM_SITE)/wheel .
	$(PIP) install --target $(ARM_SITE) --no-compile --no-deps $(ARM_SITE)/wheel/*.whl
	$(PIP) install --target $(ARM_SITE) --no-compile --only-binary=:all: --python-version 3.11 --implementation cp \
	  --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_34_aarch64 -c constraints.txt \
	  pytest flatbuffers hypothesis cwt pycose
	ARM_PYTHONPATH=$(CURDIR)/$(ARM_SITE):$(CURDIR)/tests/support .arm/bin/python-arm -m pytest -c /dev/null --rootdir . \
	  --noconftest -p no:cacheprovider -q -k "not openvino" $(ARM_TESTS)

tflite: .tflite/.done
	PYTHONPATH=tests/support .tflite/bin/python -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -q \
	  $(filter-out %/test_describe.py %/test_processing.py,$(wildcard tests/contracts/test_*.py))

.tflite/.done: $(VENV)/pyvenv.cfg setup.cfg
	$(BIN)/python -m venv .tflite
	.tflite/bin/python -m pip --disable-pip-version-check --quiet install -e '.[agent-tflite]' \
	  pytest hypothesis cwt pycose scipy in-toto-attestation protobuf jsonschema
	@touch $@

# the wheel is built as for an index; a device that is not enrolled is no fault
installed: $(VENV)/pyvenv.cfg
	rm -rf .installed
	$(PIP) wheel --no-deps --wheel-dir .installed/wheel .
	ACCOUNT= PREFIX=$(CURDIR)/.installed/edgefleet EDGE_AGENT_HOME=$(CURDIR)/.installed/home PYTHON=$(CURDIR)/$(BIN)/python \
	  PIP_ARGS="-c constraints.txt" sh deploy/install.sh .installed/wheel/*.whl
	.installed/edgefleet/bin/edge-agent doctor --home .installed/home
	.installed/edgefleet/bin/edge-agent doctor --home .installed/home | grep -q "byte code.*is of this Python"

FUZZ_SEED ?= $(shell date +%s)
FUZZ_EXAMPLES ?= 200
fuzz: $(VENV)/.dev
	@echo "seed $(FUZZ_SEED)"
	EDGEFLEET_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) EDGEFLEET_FUZZ_SEED=$(FUZZ_SEED) \
	  $(BIN)/python -m pytest tests/fleet/test_openapi.py $(PYTEST_ARGS)

walkthrough: $(VENV)/.dev
	BIN=$(CURDIR)/$(BIN) bash deploy/walkthrough.sh

# constraints.txt is the set of releases that the tests ran with
$(VENV)/.demo: $(VENV)/pyvenv.cfg setup.cfg pyproject.toml constraints.txt
	@echo "installing edgefleet[agent,converter,server] into $(VENV)"
	$(PIP) install -c constraints.txt -e '.[agent,converter,server]'
	@touch $@

$(VENV)/.benchmarks: $(VENV)/.dev
	@echo "installing edgefleet[benchmarks] into $(VENV)"
	$(PIP) install -c constraints.txt -e '.[benchmarks]'
	@touch $@

$(VENV)/.dev: $(VENV)/pyvenv.cfg setup.cfg pyproject.toml constraints.txt
	@echo "installing edgefleet[dev] into $(VENV)"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.frameworks: $(VENV)/.dev
	@echo "installing edgefleet[frameworks] into $(VENV)"
	$(PIP) install -c constraints.txt -e '.[frameworks]'
	@touch $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edgefleet needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

.arm/bin/python-arm: converter/edge_convert/device/arm_userland.sh converter/edge_convert/device/arm_counter.c $(VENV)/.dev
	$(BIN)/edge-convert arm-userland --output .arm

clean:
	rm -rf $(VENV) .arm .tflite .installed .demo .models build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
