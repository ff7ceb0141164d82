# The two commands a newcomer needs are `make demo` and `make test`; both set everything up in .venv.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
# The allocator keeps its pages: PyTorch on a processor is up to twice as fast.
KEEP_PAGES := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184
# Test files side by side, one thread each: processes with several threads would slow each other down.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile
# Half of the time of tests/parity: larger networks, and longer ways round the same arithmetic; and transformers' own
# model, whose older versions leave a tensor out of what they save.
NOT_FOR_LOWEST := not (hugging_face or vit_b or efficientvit or samplers_go_with_every_encoder or records_of_a_network or crops \
	or several_images or limit_of_time)

.PHONY: demo test test-lowest test-long test-exports bench-quick fuzz check graphs page page-check dist clean

demo: .venv/.demo
	$(BIN)/mobilesam demo --out demo-out

test: .venv/.dev
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(KEEP_PAGES) $(BIN)/python -m pytest -m "not long" $(SIDE_BY_SIDE)

# The same arithmetic and the same ends with the lowest versions that pyproject.toml allows.
test-lowest: .venv-lowest/.dev
	OMP_NUM_THREADS=1 $(KEEP_PAGES) .venv-lowest/bin/python -m pytest $(SIDE_BY_SIDE) \
		tests/parity tests/hostile tests/property -m "not long" -k "$(NOT_FOR_LOWEST)"

test-long: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[matting]'
	$(KEEP_PAGES) $(BIN)/python -m pytest

# Conversions for other runtimes, each in an environment of its own, and tests of what was converted; they take minutes.
TARGETS_OF_EXPORT := litert ncnn executorch coreml
test-exports:
	for target in $(or $(TARGETS),$(TARGETS_OF_EXPORT)); do \
		$(PYTHON) -m venv .venv-$$target && \
		.venv-$$target/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) torch==2.13.0 && \
		.venv-$$target/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e ".[$$target]" \
			pytest jaxtyping beartype hypothesis tokenizers scikit-image && \
		.venv-$$target/bin/python -m pytest -p no:anyio tests/export/test_converted.py -k $$target || exit 1; \
	done

# Inputs that a reader takes badly, looked for with atheris; what it finds is kept in fuzz-finds/.
fuzz: .venv/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --seconds $(or $(SECONDS),600) $(TARGETS)

# Main ratios and quality on a few photos, beside the committed ones; docs/explanation/benchmark.md says how to read them.
bench-quick: .venv/.dev
	PYTHONPATH=. $(BIN)/python bench/quick.py

check: .venv/.dev
	$(BIN)/ruff format --check src tests tools
	$(BIN)/ruff check src tests tools
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

# After a change to a network: the weight-free ONNX graphs that the package carries.
graphs: .venv/.dev
	for network in $$($(BIN)/python -c "from mobilesam.networks.build import *; print(*NETWORKS, *DETECTORS)"); do \
		$(BIN)/mobilesam export onnx --graphs-only --overwrite --model $$network --out src/mobilesam/graphs || exit 1; \
	done

# After a change in web/: the page that the package carries. It needs Node.
page: web/node_modules/.ready
	cd web && npm run --silent build

# The page's types and linter; the tests of a browser take what runs the model there from node_modules.
page-check: web/node_modules/.ready
	cd web && npm run --silent check

web/node_modules/.ready: web/package-lock.json
	cd web && npm ci --no-audit --no-fund --silent
	touch $@

# A release's files in dist/, checked and used; see docs/releasing.md.
dist:
	$(PYTHON) -m tools.dist $(PYTHONS:%=--python %)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "needs Python 3.11 or newer; run: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e '.[demo]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -e '.[dev]'
	touch $@ .venv/.demo

.venv-lowest/.dev: pyproject.toml tools/lowest.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "needs Python 3.11, the lowest; run: make test-lowest PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) -m tools.lowest > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --no-compile --disable-pip-version-check $(PIP_ARGS) -c .venv-lowest/lowest.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-lowest demo-out dist
