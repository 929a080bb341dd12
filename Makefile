# The five verbs. Each sets up what it needs; README's first block has the same commands.
.PHONY: install train test lint ci
PYTHON ?= python3

install: .venv/installed  ## everything, for development

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -c constraints.txt -e '.[dev]'
	touch $@

train: install  ## the default model, on this machine
	.venv/bin/python -m summarizer

test: install  ## fast tests; `make ci` has the slow ones, too
	.venv/bin/python -m pytest -n auto --dist worksteal

lint: install
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/deptry .

ci:  ## what is checked before a change lands; installs Debian packages where it runs as root
	.ci/run
