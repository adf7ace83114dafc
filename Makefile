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
.PHONY: help demo bench performance soak fuzz reproduce test test-slow lint venv system test-tools

BIN := .venv/bin
INSTALLED := .venv/installed
PYTHONS := $(PYTHON) python3.12 python3.11 python3.13 python3.10 python3.14 python3
EXTRAS := bag,cpu,dds,evaluate,synthetic,test,train,view

# Shared libraries and the Debian packages that hold them: sound input, OpenCV.
LIBRARIES := libportaudio.so.2=libportaudio2 \
  libGL.so.1=libgl1 libgthread-2.0.so.0=libglib2.0-0
# What tests of the live page, of microphones, of speech, instruments and photographs need, and the packages
# that hold it.
TEST_TOOLS := chromium,chromium-browser,google-chrome=chromium pulseaudio=pulseaudio \
  pactl=pulseaudio-utils espeak-ng=espeak-ng flite=flite \
  fluidsynth=fluidsynth
TEST_FILES := /usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so=libasound2-plugins \
  /usr/share/tuxpaint/stamps=tuxpaint-stamps-default /usr/share/gcompris-qt/rcc=gcompris-qt-data \
  /usr/share/sounds/sf2/FluidR3_GM.sf2=fluid-soundfont-gm

# Installs $$wanted where that is permitted, one by one, since not every system has them all; else
# says what to install. Only fetching can hang, and only fetching may be stopped.
define INSTALL
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  export DEBIAN_FRONTEND=noninteractive; \
  timeout 60 apt-get update -qq || true; \
  for package in $$wanted; do \
    echo "apt-get install -y $$package"; \
    get="apt-get install -y -qq --no-install-recommends $$package"; \
    { timeout 120 $$get --download-only && $$get; } </dev/null >/dev/null 2>&1 \
      || echo "That failed; what needs $$package is left out" >&2; \
  done; \
else \
  echo "Left out is what needs these: sudo apt-get install -y$$wanted" >&2; \
fi
endef

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

# Side by side, so that every core works. A file's tests share what they build.
test: lint test-tools
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: lint test-tools
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .

venv: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt | system
	@if ! $(BIN)/python -c '' 2>/dev/null; then \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
	      echo "$$python -m venv .venv"; $$python -m venv --clear .venv; break; \
	    fi; \
	  done; \
	fi; \
	$(BIN)/python -c '' 2>/dev/null || { \
	  echo 'No Python 3.10 to 3.14 with venv: sudo apt-get install -y python3 python3-venv' >&2; exit 2; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@$(BIN)/python -c 'from av_grounding.extras import left_out; \
	  [print(f"Left out is {name}: its wheels are for {where}") for name, where in left_out().items()]'
	@touch $@

# Without these, what needs them says so, so a failure here stops nothing.
system:
	@wanted=; \
	known=$$(PATH=$$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true); \
	for pair in $(LIBRARIES); do \
	  case "$$known" in *"$${pair%%=*} "*) ;; *) wanted="$$wanted $${pair#*=}" ;; esac; \
	done; \
	for python in $(PYTHONS); do \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=1; break; fi; \
	done; \
	[ -n "$${found-}" ] || wanted="$$wanted python3 python3-venv"; \
	[ -n "$$wanted" ] || exit 0; \
	$(INSTALL)

test-tools:
	@wanted=; \
	for pair in $(TEST_TOOLS); do \
	  names=$${pair%%=*}; command -v $${names//,/ } >/dev/null || wanted="$$wanted $${pair#*=}"; \
	done; \
	for pair in $(TEST_FILES); do \
	  compgen -G "$${pair%%=*}" >/dev/null || wanted="$$wanted $${pair#*=}"; \
	done; \
	[ -n "$$wanted" ] || exit 0; \
	$(INSTALL)
