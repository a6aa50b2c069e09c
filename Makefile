# `make table1` and `make test` need Python 3.11 to 3.13, git and a package index; the other targets are short cuts.
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do command -v $$each && break; done)
BIN := .venv/bin
STAMP := .venv/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo methods table1 table2 table3 figure1 all report lint test test-all docs image quick small paper lock install

# Compile installed packages now, on all cores. Where Python may not write bytecode (PYTHONDONTWRITEBYTECODE, as in many
# containers), each job would otherwise spend seconds on compiling its imports. Skip torch/testing: one file of it needs a
# newer Python.
COMPILE := python -m compileall -q -j 0 -x 'torch/testing'

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
		f"make: {sys.executable} is Python {sys.version.split()[0]}; needed is 3.11 to 3.13: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/$(COMPILE) .venv/lib
	touch $@

# The environment that trains d3rlpy's methods. d3rlpy needs other versions, so its packages precede those of .venv.
methods: .venv-methods/installed

.venv-methods/installed: requirements-methods.lock $(STAMP)
	$(BIN)/python -m venv .venv-methods
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$(.venv-methods/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beneath.pth
	.venv-methods/bin/pip install --quiet --no-compile --no-deps --requirement requirements-methods.lock
	.venv-methods/bin/$(COMPILE) .venv-methods/lib
	touch $@

# A trained planner, its score and pictures of its plans within minutes, in a folder of its own with its own params.yaml.
SCORE := results/eval/dmemm/maze2d-umaze/seed0.json
PICTURES := results/pictures/dmemm/maze2d-umaze/seed0
demo: install
	mkdir -p demo
	ln -sfn ../Snakefile ../dmemm ../profiles ../tasks ../workflow demo
	cp params.yaml demo
	cd demo && python -m dmemm setting demo
	cd demo && snakemake --cores all --quiet rules -- $(SCORE) $(PICTURES).html
	@tail -n 1 demo/logs/evaluate/dmemm/maze2d-umaze/seed0.log
	@ls demo/$(PICTURES).*

table1 table2 table3: install
	snakemake --cores all results/$@.csv
	@cat results/$@.md
	@ls results/$@.png

figure1: install
	snakemake --cores all results/figure1.png

all: install
	snakemake --cores all

# All tables and figures on one page, results/report.html. Results on demand are included if they exist and are current.
ON_DEMAND = $(wildcard $(addprefix results/,estimators.csv ranking.csv guide.csv guide/*.csv pictures/*/*/seed*.html))
report: install
	snakemake --cores all
	snakemake --report results/report.html all $$(for file in $(ON_DEMAND); do \
		snakemake --summary $$file 2> /dev/null | awk -F '\t' -v file=$$file '$$1 == file {current = $$NF == "no update"} \
		END {if (current) print file; else print "report: " file ": not current, left out" > "/dev/stderr"}'; done)

# Of the project, not of modules that a user has put beside it.
CODE := benchmarks dmemm docs snakemake_logger_plugin_dmemm tests workflow
lint: install
	ruff format --check $(CODE)
	ruff check $(CODE)
	mypy
	snakefmt --check Snakefile workflow
	snakemake --dry-run --lint
	$(DOCS)

# One worker more than cores: many tests wait for processes that they have started.
PYTEST = OMP_NUM_THREADS=1 pytest --dist loadfile --no-loadscope-reorder \
	--numprocesses $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# Lint, types, links, then tests. The packages of other methods are installed meanwhile: both use one core.
test: install
	$(MAKE) --jobs=2 lint methods
	$(PYTEST) -m 'not long'

# Every test, the long ones too.
test-all: install methods
	$(PYTEST)

# The documentation as a site, in site/; a link to nowhere is an error.
DOCS := NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
docs: install
	$(DOCS)

# The container of the Snakefile's `container:`.
image:
	docker build --tag dmemm .
	apptainer build --force dmemm.sif docker-daemon:dmemm:latest

# Put a setting's values into params.yaml.
quick small paper: install
	python -m dmemm setting $@

# After a change of pyproject.toml: install it, try it, then record every version. A local build's suffix (+cpu) is no
# part of a version that an index knows.
lock:
	$(BIN)/pip install --editable '.[pipeline,dev,docs]'
	$(BIN)/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > requirements.lock
