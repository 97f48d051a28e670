# Everything happens in this folder. The one exception: `make setup`, run as root, installs the Debian packages that are missing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
STAMP := .venv/.mosfs

# To build pyfuse3 and our C module; then what the demo and the tests run.
PACKAGES := python3 python3-venv python3-dev gcc libc6-dev pkg-config libfuse3-dev fuse3 \
            bash bzip2 gawk iproute2 make procps sqlite3 xz-utils

# What a second computer is made of (tests/machines).
MACHINE_PACKAGES := qemu-system-x86 debootstrap kmod cpio libopenblas0-pthread python3-numpy

# To build a Debian package.
DEB_PACKAGES := dpkg-dev binutils gzip

# What test-all runs one after the other.
TOGETHER := not lint and not machines and not beside and not alone

PREFIX ?= /usr/local
DESTDIR ?=
WHEELS := build/wheels

# Daemons and commands start all the time; compiling all of mosfs each time takes as long as the rest of their start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-all test-machines bench bench-all check check-quick wheels wheel deb install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: $(STAMP) ## Debian packages (as root), .venv, and every command in .venv/bin; quick when nothing changed

demo: $(STAMP) ## real programs moved while they run, and compared with native runs; then a cluster levels out by itself, and two lend each other nodes
	$(BIN)/python -m mosfs.tools.demo

test: check-quick ## check (its mypy beside the tests), and the tests that take minutes at most: those of parts beside those with clusters
	@mkdir -p build; $(BIN)/mypy >build/mypy.txt 2>&1 & types=$$!; tests=0; \
	echo "test: what the tests of parts (t0 to t4) say, and half of those with clusters behind them, goes to build/parts.txt"; \
	$(BIN)/python -m pytest -m 'not long and not lint' tests/t[0-4]_*.py tests/t5_[m-z]*.py tests/t[6-9]_*.py >build/parts.txt 2>&1 & parts=$$!; \
	$(BIN)/python -m pytest -m 'not long and not lint' tests/t5_[a-l]*.py || tests=1; \
	wait $$parts || tests=1; tail -n 40 build/parts.txt; \
	wait $$types || tests=1; echo "mypy: $$(tail -n 20 build/mypy.txt)"; exit $$tests

test-all: check ## check, then every test: those with a second computer, and those that mostly wait, beside the others; then those that want the machine for themselves
	@mkdir -p build; export MOSIX_TEST_RANDOM=1; tests=0; \
	echo "test-all: what the second computer says goes to build/second.txt, what mostly waits to build/beside.txt, parts (t0 to t4) to build/parts.txt"; \
	$(BIN)/python -m pytest -m machines >build/second.txt 2>&1 & second=$$!; \
	$(BIN)/python -m pytest -m beside >build/beside.txt 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest -m '$(TOGETHER)' tests/t[0-4]_*.py >build/parts.txt 2>&1 & parts=$$!; \
	$(BIN)/python -m pytest -m '$(TOGETHER)' tests/t[5-9]_*.py || tests=1; \
	echo "test-all: waiting for the second computer"; \
	for one in parts beside second; do wait $${!one} || tests=1; tail -n 40 build/$$one.txt; done; \
	$(BIN)/python -m pytest -m alone || tests=1; exit $$tests

test-machines: $(STAMP) ## the tests with a second computer: another kernel, other processors; by qemu, takes an hour
	@if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	    dpkg-query -W $(MACHINE_PACKAGES) >/dev/null 2>&1 || { echo "test-machines: installing $(MACHINE_PACKAGES)"; apt-get -qq update; \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y $(MACHINE_PACKAGES) >/dev/null; }; fi
	$(BIN)/python -m pytest -m machines

bench: $(STAMP) ## the figures of the targets, each as a ratio to a reference of the same run
	$(BIN)/python -m bench

bench-all: $(STAMP) ## bench, the figures that take many minutes, and every simulated workload with many seeds
	$(BIN)/python -m bench --all
	$(BIN)/python -m bench.sim_jobs --runs 100
	$(BIN)/python -m bench.sim_outlive
	$(BIN)/python -m bench.sim_lending

check: check-quick ## ruff, mypy --strict, the import law, and the sizes of classes and functions
	$(BIN)/mypy

check-quick: $(STAMP) ## check, all but mypy
	$(BIN)/ruff check .
	$(BIN)/python -m tools.check_imports
	$(BIN)/python -m tools.check_sizes

wheels: $(STAMP) ## wheels of mosfs and of all that it needs, in build/wheels
	@rm -rf $(WHEELS)
	$(BIN)/python -m pip -q --disable-pip-version-check wheel . -w $(WHEELS)

wheel: $(STAMP) ## a wheel and an sdist, in dist
	$(BIN)/python -m pip -q --disable-pip-version-check wheel --no-deps . -w dist
	$(BIN)/python setup.py -q sdist -d dist

deb: wheels ## a Debian package for this distribution and its Python, in dist; it needs no network when it is installed
	@if [ "$$(id -u)" -eq 0 ]; then \
	    dpkg-query -W $(DEB_PACKAGES) >/dev/null 2>&1 || { echo "deb: installing $(DEB_PACKAGES)"; apt-get -qq update; \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y $(DEB_PACKAGES) >/dev/null; }; fi
	$(BIN)/python -m tools.deb $(WHEELS) dist

install: wheels ## commands, man pages, services and all else below DESTDIR and PREFIX (default: /usr/local)
	$(BIN)/python -m tools.stage $(WHEELS) --destdir "$(DESTDIR)" --prefix "$(PREFIX)"

clean: ## remove what setup and the tests made, except .venv itself
	rm -rf $(STAMP) build *.egg-info mosfs/*.so mosfs/native/launch mosfs/native/runner .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

# The stamp lies in .venv, which `git clean -e .venv` keeps; what was built lies beside the sources, and goes.
ifeq ($(wildcard mosfs/_native*.so),)
.PHONY: $(STAMP)
endif

$(STAMP): Makefile pyproject.toml setup.py $(wildcard mosfs/native/*.*)
	@missing=$$(for package in $(PACKAGES); do \
	    dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || printf ' %s' $$package; done); \
	if [ -z "$$missing" ]; then :; \
	elif ! command -v apt-get >/dev/null; then echo "setup: no apt-get here; this needs what Debian calls:$$missing"; \
	elif [ "$$(id -u)" -ne 0 ]; then echo "setup: please have these installed first: apt-get install$$missing" >&2; exit 1; \
	else echo "setup: installing Debian packages:$$missing"; apt-get -qq update; \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y $$missing >/dev/null; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "setup: mosfs needs Python 3.11 or newer")'
	@[ -x $(BIN)/pip ] || { echo "setup: making .venv"; $(PYTHON) -m venv .venv; }
	@echo "setup: installing the libraries in .venv, and building the C module (a minute or two)"
	@PYTHONUNBUFFERED=1 $(BIN)/python -m pip --disable-pip-version-check install -e '.[test]' \
	    --config-settings editable_mode=compat \
	    | sed -un 's/^\(.\{90\}\).*/\1.../; s/^ *\(Collecting\|Building\|Installing collected\)/setup:   \1/p'
	@echo "setup: the commands are in .venv/bin"
	@$(BIN)/python -m mosfs.tools.install_launchers
	@touch $@
