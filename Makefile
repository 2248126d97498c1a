# make demo     the features in an embedded cloud, over HTTP, with a transcript
# make test     style, unit and functional tests, Nova's own, documentation
# make test-nightly     what takes longer than "make test" should
# make test-bare        "make demo" and "make test" in roots of Debian releases
# make test-databases   rebuild on MariaDB and PostgreSQL, in 10 minutes
# make test-client      the openstack command, of each of CLIENTS
# make explore  look for what is lost, at every step, for 10 minutes
# make functional-matrix   a slice of the functional tests on another Nova
# make distributors     whether the package fits the Nova of Debian or Ubuntu
# make new-nova         take in new releases of the series NOVA
# make mutants  whether the tests would notice a fault, for 20 faults
# make bench    what the package costs
# make clean    take away what these made
#
#   PYTHON=             the interpreter of the environment that they make; if
#                       empty, the newest found that the Nova supports
#   NO_INSTALL=         1: name missing system packages, do not install them
#   VENV=.venv          where that environment is
#   NOVA=34             the Nova series in it (29 to 34)
#   DEMO=               stories for "make demo", all if empty
#   TESTS=              for unit and functional: a regular expression
#   NATIVE=             1: functional tests on native threads (Nova 34)
#   WORKERS=            of the functional tests; they wait half of the time
#   CLIENTS=            for test-client: releases of OpenStackClient, all if
#                       empty
#   SELECT=quick        which of Nova's own tests: quick, unit, functional,
#                       touched or full (hours)
#   SLICE=              for "make nova-suite": 3/12 or next/12, a part of them,
#                       whose results are kept
#   MATRIX=             for "make functional-matrix": what to run, of
#                       "python -m tests.matrix --help"
#   UPPER=              for "make new-nova" with a new series: the file of
#                       OpenStack's upper constraints
#   RELEASES=           for "make test-bare": by default bookworm and trixie
#   BARE=               for "make test-bare": by default demo and test

PYTHON ?=
NOVA ?= 34
VENV ?= .venv
DEMO ?=
TESTS ?=
NATIVE ?=
CLIENTS ?=
SELECT ?= quick
SLICE ?=
MATRIX ?=
UPPER ?=
RELEASES ?= bookworm trixie
BARE ?= demo test
WORKERS ?= $(shell echo $$(($$(nproc) * 3 / 2)))

export PATH := $(abspath $(VENV))/bin:$(PATH)
export PYTHONWARNINGS ?= ignore
export OS_STDOUT_CAPTURE ?= 1
export OS_STDERR_CAPTURE ?= 1
export OS_TEST_TIMEOUT ?= 300
export LC_ALL := C.UTF-8

# The page shows what was found, all the more if that is a failure.
and_page := ; status=$$?; python -m tests.records.page; exit $$status

installed := $(VENV)/installed-nova-$(NOVA)

.PHONY: help demo bench test test-nightly test-bare test-client test-databases \
	venv style unit functional functional-matrix nova-suite digests \
	distributors new-nova \
	docs releasenotes package samples clean

help:
	@sed -n '/^# /s/^# //p' $(firstword $(MAKEFILE_LIST))

venv: $(installed)

$(installed): tools/make_venv.sh bindep.txt constraints/nova-$(NOVA).txt \
		requirements.txt test-requirements.txt doc/requirements.txt setup.cfg
	@tools/make_venv.sh $(VENV) constraints/nova-$(NOVA).txt $(PYTHON)
	@touch $@

demo: venv
	@python -m demo $(DEMO)

bench: venv
	@python -m bench

test: style digests unit functional samples docs releasenotes nova-suite
	@echo "make test: all passed"

style: venv
	pre-commit run --all-files --show-diff-on-failure

# The installed Nova is code that the package was tested on.
digests: venv
	nova-rescue-ext-status overrides

unit: venv
	OS_TEST_PATH=./tests/unit stestr run '$(TESTS)'

ifneq ($(NATIVE),)
functional: export OS_NOVA_DISABLE_EVENTLET_PATCHING = true
endif
functional: venv
	OS_TEST_PATH=./tests/functional stestr run --concurrency $(WORKERS) '$(TESTS)'

# Tests that are marked "nightly", and each of the others, too.
test-nightly: export TEST_NIGHTLY = 1
test-nightly: unit functional package test-client

# Needs root, debootstrap, and unshare.
test-bare:
	tools/bare_root.sh '$(RELEASES)' $(BARE)

# Servers of its own, on private sockets: bindep.txt, profile "databases".
test-databases: venv
	pip install --quiet -r tests/functional/requirements-databases.txt
	TEST_DATABASES=1 OS_TEST_PATH=./tests/functional stestr run \
		'rebuild_(databases|on_mariadb|killed)'

# Each release in an environment of its own, without Nova.
test-client: venv
	python -m tests.client --folder $(VENV)-client $(CLIENTS)

nova-suite: venv
	python -m tests.nova_suite --select $(SELECT) $(if $(NATIVE),--native) \
		$(if $(SLICE),--slice $(SLICE)$(and_page))

# Each place has an environment of its own, with its Nova and its Python.
functional-matrix: venv
	python -m tests.matrix --folder $(VENV)-matrix $(MATRIX)$(and_page)

# Needs apt-get. Nothing is installed.
distributors: venv
	python -m tests.records.distributors$(and_page)

# Not "venv": the constraints that it is made by are what this writes.
new-nova:
	mkdir -p build
	python tools/new_nova.py --report build/new-nova.html \
		$(if $(UPPER),--upper-constraints $(UPPER)) $(NOVA)
	$(MAKE) VENV=$(VENV)-new digests unit functional nova-suite

samples: venv
	oslo-config-generator --config-file etc/nova-rescue-ext/config-generator.conf
	oslopolicy-sample-generator --config-file etc/nova-rescue-ext/policy-generator.conf

docs: venv
	rm -rf doc/build/html
	sphinx-build -q -W --keep-going -b html -d doc/build/doctrees doc/source doc/build/html
	sphinx-build -q -W --keep-going -b man -d doc/build/doctrees doc/source doc/build/man

releasenotes: venv
	reno lint

# The sdist and the wheel of what is committed.
package: venv
	pip install --quiet -c constraints/nova-$(NOVA).txt \
		-r tests/packaging/requirements.txt
	python -m unittest tests.packaging.test_package

clean:
	rm -rf $(VENV) $(VENV)-client $(VENV)-matrix $(VENV)-new doc/build releasenotes/build .stestr

-include lab.mk
include explorer.mk mutants.mk
