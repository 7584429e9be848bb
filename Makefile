# make demo    a shipped model takes noisy sequences apart: an animation and a picture, in half a minute
# make train   data, training, scores, SavedModel: one to ten minutes on two cores;  then: make board
# make test    all tests, but those of whole pages and of the benchmarks, which make commands runs
# make faults  a thirtieth of the campaign of faults, some minutes; all of it: python -m tests.faults
# make commands  every command of the pages, the tour and the benchmarks, made small, some minutes
# make wheel   sdist and wheel in dist/, checked and run
# make docs    the pages of docs/ and those of the public names as a site, in docs/_build/html
# Each sets up .venv first, from requirements.txt; make docs sets up .venv-docs.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/first

.PHONY: demo train board test faults commands lowest newest wheel docs lint format

demo: $(VENV)/.installed
	$(BIN)/python -m nem_tf.demo

train: $(VENV)/.installed
	$(BIN)/python -m nem_tf.train --flagfile=flags/first.flags --run_dir=$(RUN)
	$(BIN)/python -m nem_tf.evaluate --run_dir=$(RUN)
	test -d $(RUN)/saved_model || $(BIN)/python -m nem_tf.export --run_dir=$(RUN)
	@echo "now:  make board  and open the Images tab"

board: $(VENV)/.installed
	$(BIN)/tensorboard --logdir runs --samples_per_plugin images=1000 # the pictures of all epochs

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist=worksteal

faults: $(VENV)/.installed
	$(BIN)/python -m tests.faults --share=0.03

commands: $(VENV)/.installed
	$(BIN)/python -m pytest -m page
	$(BIN)/python -m tests.commands

# The quick tests on the lowest versions that pyproject.toml allows, and on Python 3.13.
lowest: $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python -m pytest -n 2 --dist=worksteal -m "not slow"

newest: $(VENV)-3.13/.installed
	$(VENV)-3.13/bin/python -m pytest -n 2 --dist=worksteal -m "not slow"

# sdist and wheel, checked, and the programs of the wheel run.
wheel: $(VENV)/.installed
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	.ci/from_wheel $(BIN)/python

docs: $(VENV)-docs/.installed
	$(VENV)-docs/bin/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "now open docs/_build/html/index.html"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: requirements.txt
	@echo "installing TensorFlow and the rest into $(VENV), a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)-lowest/.installed: pyproject.toml .ci/lowest.py
	$(PYTHON) -m venv $(VENV)-lowest
	$(PYTHON) .ci/lowest.py > $(VENV)-lowest/requirements.txt
	$(VENV)-lowest/bin/pip install --quiet -r $(VENV)-lowest/requirements.txt
	touch $@

$(VENV)-3.13/.installed: requirements.txt
	python3.13 -m venv $(VENV)-3.13
	$(VENV)-3.13/bin/pip install --quiet -r requirements.txt
	touch $@

$(VENV)-docs/.installed: requirements.txt docs/requirements.txt
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/pip install --quiet -r requirements.txt -r docs/requirements.txt
	touch $@
