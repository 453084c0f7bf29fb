# make demo   environment + the main job on the shipped jets, ends with the path of the report
# make test   environment + lint + types + every test
# make quick  the same without the slow tests, for daily work
# make matrix  every kind of network in every hls4ml layout, bit by bit (about an hour on one core the first time);
#             writes docs/matrix.md
# make test-qkeras  the tests of the QKeras bridge, in an environment of their own with TensorFlow (3 GB)
# make look   opens the demo's report in headless Chromium and saves screenshots (needs chromium)
# make lock   writes requirements.lock anew from the environment
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PROJECT ?= hls_projects/jet_tagger
RUN_ARGS ?=

.PHONY: demo test quick test-qkeras matrix look lock clean

demo: $(VENV)/.demo
	$(BIN)/trigger-prune run $(PROJECT) $(RUN_ARGS)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-qkeras: $(VENV)-qkeras/.test,qkeras
	$(VENV)-qkeras/bin/pytest -n 2 --dist loadfile tests/qkeras_bridge

matrix: $(VENV)/.test
	$(BIN)/python -m trigger_prune.verify.matrix

look: $(VENV)/.demo
	@command -v chromium >/dev/null || { echo "chromium is not installed: apt-get install chromium"; exit 1; }
	$(BIN)/python tests/look/check_report.py $(PROJECT)/build/report.html

lock: $(VENV)/.test
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) $(VENV)-qkeras

# A stamp is written only after pip has succeeded, so an interrupted installation is completed by the next call.
$(VENV)/.%: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$*]'
	touch $@

$(VENV)-qkeras/.%: pyproject.toml requirements.lock
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$*]'
	touch $@
