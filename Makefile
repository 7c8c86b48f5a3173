# make setup   .venv with everything in it        make demo    a small corpus from nothing
# make test    the tests                          make check   lint and types
.DELETE_ON_ERROR:
.PHONY: setup demo test check clean

PDID := .venv/bin/pdid
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python3.14; do \
	path=$$(command -v $$name) && "$$path" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo "$$path" && break; done)
PIP := .venv/bin/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt

# Test material lies beside the checkout where this project is developed; elsewhere, set PDID_TEST_DATA and PDID_MODELS.
SHARED := $(patsubst %/tools/make_models.py,%,$(wildcard ../shared/tools/make_models.py))
ifneq ($(SHARED),)
export PDID_TEST_DATA ?= $(abspath $(SHARED)/data)
test: export PDID_MODELS ?= $(abspath .models)
test: .models/.done
endif

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "setup: no Python 3.11 or newer with venv found; install one, or: make setup PYTHON=/path/to/python3.11" >&2; \
		exit 1; fi
	@echo "setup: making .venv with $(PYTHON) (about 6 GB, a few minutes; most of it is torch)"
	@[ -x .venv/bin/python ] || "$(PYTHON)" -m venv .venv
	@$(INSTALL) pip setuptools
	@echo "setup: installing pdid, pinned by constraints.txt, with the extras demo and dev"
	@# with setuptools pinned above, the build needs no environment of its own; it warns of every editable install
	@PYTHONWARNINGS=ignore $(INSTALL) --no-build-isolation --editable '.[demo,dev]'
	@# for the voice encoder in its wheel only: what its metadata asks for needs a compiler and is never imported
	@$(INSTALL) --no-deps Resemblyzer
	@touch $@
	@echo "setup: done; try $(PDID) --help"

demo: setup
	$(PDID) demo

# two processes of tests on two cores: threads of torch's would only wait for each other
test: export OMP_NUM_THREADS ?= 1
test: setup
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict catalog corpus_builder asr_experiments yt_dlp_plugins

# A folder of models for the tests: the small real ones, and random weights in pyannote's and Demucs' formats.
.models/.done: | setup
	@echo "test: making .models (random weights in the published formats)"
	@mkdir -p .models
	@[ ! -d "$(SHARED)/models" ] || ln -sfn "$(abspath $(SHARED)/models)"/*/ .models/
	@.venv/bin/python "$(SHARED)/tools/make_models.py" .models
	@touch $@

clean:
	rm -rf .venv .models .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
