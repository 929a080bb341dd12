# The five verbs. Each sets up what it needs; README's first block has the same commands.
.PHONY: install train test lint docs
PYTHON ?= python3

install: .venv/installed  ## everything, for development

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -c constraints.txt -e '.[dev]'
	touch $@

train: install  ## the default model, on this machine
	.venv/bin/python -m summarizer

test: install  ## fast tests; .ci/run has the slow ones, too
	.venv/bin/python -m pytest -n auto --dist worksteal

lint: install
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/deptry .

docs: install  ## the pages as a site in site/; `.venv/bin/mkdocs serve` shows them while you write
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
