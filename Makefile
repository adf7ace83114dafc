# make demo   grounds the demo scene and leaves out/demo/overlay.mp4
# make test   lints and runs the tests
# make test-slow runs the tests that take minutes or gigabytes
# make bench  measures latency, CPU and memory, into out/bench/bench.json
# make performance measures backends, sizes and windows, into docs/performance.md
# make soak   plays a day in an hour, with faults, into out/soak
# make fuzz   feeds every parser for a minute each
# make reproduce trains and measures the papers' comparisons (hours), into docs/reproduction.md
# All make .venv first, where it is missing or older than setup.py and constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo bench performance soak fuzz reproduce test test-slow lint venv system

BIN := .venv/bin
INSTALLED := .venv/installed
# A sourced ROS 2 brings pytest plugins that stop a current pytest.
PYTEST := $(BIN)/python -m pytest -p no:launch_testing -p no:launch_ros -p no:launch_pytest

# Shared libraries and the Debian packages that hold them: sound input, OpenCV.
LIBRARIES := libportaudio.so.2=libportaudio2 \
  libGL.so.1=libgl1 libgthread-2.0.so.0=libglib2.0-0

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(INSTALLED)
	$(BIN)/av-grounding run demo --out out/demo

bench: $(INSTALLED)
	$(BIN)/av-grounding bench --out out/bench $(ARGS)

performance: $(INSTALLED)
	$(BIN)/python -m av_grounding.benchmarking.performance $(ARGS)

soak: $(INSTALLED)
	$(BIN)/python -m av_grounding.benchmarking.soak $(ARGS)

fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run $(ARGS)

reproduce: $(INSTALLED)
	$(BIN)/av-grounding reproduce --data out/data --out runs/reproduce --page docs/reproduction.md $(ARGS)

test: lint
	$(PYTEST) $(ARGS)

test-slow: lint
	$(PYTEST) -m slow $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .

venv: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt | system
	@if ! $(BIN)/python -c '' 2>/dev/null; then \
	  for python in $(PYTHON) python3.12 python3.11 python3.10 python3; do \
	    if $$python -c 'import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	      echo "$$python -m venv .venv"; $$python -m venv --clear .venv; break; \
	    fi; \
	  done; \
	fi; \
	$(BIN)/python -c '' 2>/dev/null || { \
	  echo 'No Python 3.10, 3.11 or 3.12 with venv: sudo apt-get install -y python3 python3-venv' >&2; exit 2; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[bag,cpu,dds,evaluate,synthetic,test,train,view]'
	@touch $@

# Installs what is missing where it may; else says what to install. Without these, what needs
# them says so, so a failure here stops nothing.
system:
	@wanted=; \
	known=$$(PATH=$$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true); \
	for pair in $(LIBRARIES); do \
	  case "$$known" in *"$${pair%%=*} "*) ;; *) wanted="$$wanted $${pair#*=}" ;; esac; \
	done; \
	for python in $(PYTHON) python3.12 python3.11 python3.10 python3; do \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=1; break; fi; \
	done; \
	[ -n "$${found-}" ] || wanted="$$wanted python3 python3-venv"; \
	[ -n "$$wanted" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "apt-get install -y$$wanted"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$wanted >/dev/null; } \
	    || echo "That failed; install by hand: apt-get install -y$$wanted" >&2; \
	else \
	  echo "Missing system packages: sudo apt-get install -y$$wanted" >&2; \
	fi
