# make book, make pdf, make test: a virtual environment, then everything else inside it.
# Written for GNU make 3.81 (macOS) and later.

PYTHON ?= python3
PROFILE ?= quick
DATA ?=
FAST ?=
LEFT := not book and not browser and not colab and not slow

# A file stays in one process; in their order, since the longest, the chapters, come first.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help book pdf test clean

help:
	@echo "make book                   run every chapter, build the pages"
	@echo "make book DATA=~/data       the same on the real data sets there"
	@echo "make book PROFILE=cpu       with the values of another profile: quick, cpu, full"
	@echo "make pdf                    print the built pages as one PDF, with Chromium or Chrome"
	@echo "make test                   check everything"
	@echo "make test FAST=1            without chapters, pages, browser, and what takes over 5 s"
	@echo "make clean                  remove what was built; downloads and drawn data stay"
	@echo "PYTHON=python3.12           with any of these: the Python to build the environment with"

book: $(VENV)/book
	$(BIN)/fmabs-lite build --profile "$(PROFILE)" $(if $(DATA),--data "$(DATA)")

pdf: $(VENV)/book
	$(BIN)/fmabs-lite pdf

test: $(VENV)/test
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(if $(FAST),-m "$(LEFT)")

clean:
	rm -rf _build $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "This book needs Python 3.10 or newer, and '$(PYTHON)' is not."; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment could be made. On Debian: apt install python3-venv"; exit 1; }

$(VENV)/book: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing the package and the book's tools into $(VENV): a few minutes the first time."
	$(PIP) --constraint constraints.txt --editable ".[book]"
	@touch $@

$(VENV)/test: $(VENV)/book
	$(PIP) --constraint constraints.txt --editable ".[book,test]"
	@touch $@
