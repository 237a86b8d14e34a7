# Lightbox's workshop. Plain make (BSD make and the GNU make 3.81 of macOS too): everything clever is in Python.
# Settings come from the environment (PACS_..., see `pacs settings`); PYTHON=... names another Python.

PY = .venv/bin/python
PIP = $(PY) -m pip --disable-pip-version-check --quiet
ARGS =
# What Python compiles while it imports takes a third longer to load, and 2 MB more in each process.
# A checkout that cannot be written to is served as it is.
COMPILE = $(PY) -m compileall -qq storage pacs dicomweb

help: ## say what can be made
	@echo "Lightbox: make ..."
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	    printf '  %-12s %s\n' "$$name" "$$text"; done
.PHONY: help

serve: .venv/.installed ## set everything up (the first time) and serve: viewer, DICOMweb and DIMSE
	@.venv/bin/pacs viewer viewer >/dev/null || echo "Going on without the viewer: everything else works."
	@$(COMPILE) || true
	@exec .venv/bin/pacs serve $(ARGS)
.PHONY: serve

demo: .venv/.installed-demo ## load a handful of real series to look at
	@.venv/bin/pacs demo $(ARGS)
.PHONY: demo

viewer: .venv/.installed ## fetch and verify the viewer (serve does it too)
	@.venv/bin/pacs viewer viewer
.PHONY: viewer

test: .venv/.installed-test ## set everything up and run the tests; ARGS='tests/test_viewer.py -n0' for some
	@env -u PACS_TEST_S3 .venv/bin/pacs viewer viewer >/dev/null || echo "Going on without the viewer: the browser tests will skip."
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
.PHONY: test

check: .venv/.installed-test ## lint, types, and the rules of the architecture
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@$(PY) -m pytest -q -n 0 tests/test_architecture.py tests/test_exports.py tests/test_documentation.py
.PHONY: check

bench: .venv/.installed-test ## measure beside Orthanc, write deploy/benchmarks.md; ARGS='--only frames' for some, printed
	@$(COMPILE)
	@$(PY) -m tests.bench $(ARGS)
.PHONY: bench

bench-growth: .venv/.installed-test ## measure searches and index against the number of studies, write deploy/growth.md
	@$(PY) -m tests.bench.growth $(ARGS)
.PHONY: bench-growth

clean: ## remove what was made here: the environment, the viewer, caches (never the archive in pacs-data)
	rm -rf .venv viewer build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
.PHONY: clean

.venv/.installed: pyproject.toml .venv/.created
	@echo "Installing Lightbox and what it is built on (a minute or two, the first time)"
	@$(PIP) install --editable .
	@$(COMPILE)
	@touch .venv/.installed

.venv/.installed-demo: pyproject.toml .venv/.installed
	@echo "Installing the demonstration series"
	@$(PIP) install --editable '.[demo]'
	@touch .venv/.installed-demo

.venv/.installed-test: pyproject.toml .venv/.installed
	@echo "Installing what the tests need"
	@$(PIP) install --editable '.[test]'
	@touch .venv/.installed-test

# The first Python of the right age that can make an environment; one line that says what to do where there is none.
.venv/.created:
	@test -x $(PY) || { \
	found=; \
	for python in $${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do \
	    "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	    found="$$python"; \
	    "$$python" -c 'import venv, ensurepip' 2>/dev/null || continue; \
	    echo "Making the environment .venv with $$("$$python" --version)"; \
	    "$$python" -m venv .venv && exit 0; \
	    rm -rf .venv; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "$$found cannot make an environment (its venv module is missing): on Debian or Ubuntu, apt-get install python3-venv, and make again." >&2; \
	else \
	    echo "Lightbox needs Python 3.11, 3.12 or 3.13, and $${PYTHON:-this machine} has none: install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13), or make PYTHON=/path/to/python." >&2; \
	fi; \
	exit 1; }
	@touch .venv/.created
