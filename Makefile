# `make demo` and `make test` do all the set-up on a fresh machine; see README.md.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DOCS = $(VENV)-docs/bin
PROSE = *.md docs/*.md docs/site_pages .github benchmarks/*.py provider adapters dags_examples
CONSTRAINTS = constraints/constraints.txt
# Cluster, Airflow, AWS and the rest are tested side by side; two at a time on a small machine.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))

# Make's variables reach the tests as if they were the environment's.
export CLUSTER TEST_KUBECONFIG TEST_STEP_IMAGE TEST_HOST_ADDRESS TEST_ARGO_IMAGE

.PHONY: demo quick quick-pythons test test-extended coverage-floor mutants lint docs package lock clean

# OPEN=1 leaves its Airflow open until Ctrl-C.
demo: $(VENV)/.demo
	@OPEN=$(OPEN) $(BIN)/python -m airflow_provider_metaflow.embedded.demo

# What a contributor runs before each commit: no apt, npm, Go or root; at most three minutes on two cores.
quick: $(VENV)/.test
	@$(BIN)/python -m tests.harness.quick $(PYTEST_ARGS)

# CLUSTER=built|kind|k3d|own|none; TEST_KUBECONFIG and the like: CONTRIBUTING.md.
test: $(VENV)/.test
	@WORKERS=$(WORKERS) $(BIN)/python -m tests.harness.full test $(PYTEST_ARGS)

# What serves few tests and needs big builds: when a change touches those parts. It writes tests/extended.json.
test-extended: $(VENV)/.test $(VENV)-oldest/.demo
	@WORKERS=$(WORKERS) $(BIN)/python -m tests.harness.full extended $(PYTEST_ARGS)

# A random sample of 200 small faults in planners, emitters and adapters; MUTANTS="-n 50 --seed 7 --only argo/".
mutants: $(VENV)/.test
	@$(BIN)/python -m tests.harness.mutants $(MUTANTS)

lint: $(VENV)/.test
	$(BIN)/ruff check provider adapters tests benchmarks dags_examples docs/site_pages
	$(BIN)/ruff format --check provider adapters docs/site_pages
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

# The site, in build/site. A link or an anchor that leads nowhere fails it, and a misspelt word.
docs: $(VENV)-docs/.docs
	$(DOCS)/codespell $(PROSE)
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --clean

# What PyPI gets, in dist/: a wheel, a source distribution, and an SBOM of all that the extras can install.
package: $(VENV)-docs/.docs
	rm -rf dist build/lib
	$(DOCS)/python -m build --quiet --installer uv --outdir dist
	$(DOCS)/twine check --strict dist/*
	$(DOCS)/pyroma --min 10 dist/*.tar.gz
	$(DOCS)/uv pip compile --quiet --all-extras --generate-hashes --no-annotate --constraint $(CONSTRAINTS) \
		--output-file dist/requirements.txt pyproject.toml
	$(DOCS)/cyclonedx-py requirements dist/requirements.txt --pyproject pyproject.toml --output-file dist/sbom.cdx.json

$(VENV)/.demo: pyproject.toml $(CONSTRAINTS)
	@scripts/venv.sh "$(PYTHON)" "$(VENV)"
	@scripts/install.sh "$(VENV)" --constraint $(CONSTRAINTS) --editable ".[airflow]"
	@touch $@

$(VENV)/.test: $(VENV)/.demo constraints/test.in
	@scripts/install.sh "$(VENV)" --constraint $(CONSTRAINTS) --requirement constraints/test.in
	@touch $@

# Without Airflow: the site needs the package's own command lines, and its docstrings are read without an import.
$(VENV)-docs/.docs: pyproject.toml constraints/docs.txt
	@scripts/venv.sh "$(PYTHON)" "$(VENV)-docs"
	@scripts/install.sh "$(VENV)-docs" --constraint constraints/docs.txt \
		--requirement constraints/docs.in --editable ".[argo,step-functions]"
	@touch $@

# The oldest Airflow that we support, for a smoke run.
$(VENV)-oldest/.demo: pyproject.toml constraints/oldest.txt
	@scripts/venv.sh "$(PYTHON)" "$(VENV)-oldest"
	@scripts/install.sh "$(VENV)-oldest" --constraint constraints/oldest.txt --editable ".[airflow]"
	@touch $@

# The unit tests of `make quick` on the other Pythons that are on this machine; `make test` runs them, too.
quick-pythons: $(VENV)/.test
	@$(BIN)/python -m tests.harness.pythons

# After a `make test`: the floor of the coverage is what that has measured.
coverage-floor: $(VENV)/.test
	@$(BIN)/python -m tests.harness.measured raise

# Pin what is installed now, after the tests have passed with it, and the like for the other Pythons.
lock: $(VENV)/.test
	$(BIN)/python -m pip freeze --exclude-editable --exclude airflow-provider-metaflow > $(CONSTRAINTS)
	$(BIN)/python -m tests.harness.pythons lock
	$(BIN)/uv pip compile --quiet --upgrade --no-header --no-annotate --python-version 3.11 --extra argo --extra step-functions \
		--output-file constraints/docs.txt pyproject.toml constraints/docs.in

clean:
	rm -rf $(VENV) $(VENV)-*
