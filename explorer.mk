# The explorer: what happens at every step of an operation. Included by the
# Makefile; doc/source/contributor/explorer.rst tells more.
#
# make explore            look for what is lost, for SECONDS
# make explore-known      the same, with one happening, of the operations in
#                         which all of these have ended well: a part of
#                         .ci/run
# make explore-all        everything, or what there is time for in SECONDS;
#                         goes on where it was stopped, and writes the page of
#                         what was explored
# make explore-sequences  operations one after the other
# make explore-mutations  the proof that it finds what is there to be found;
#                         goes on with those that were not found yet
#
#   SECONDS=          how long; by default 600, with explore-all until
#                     everything has run
#   SEED=             what it chooses; by default that of the day
#   SCHEDULE=         one schedule, or some, to be replayed
#   OPERATIONS=       names of operations; all if empty
#   SEQUENCES=100     how many
#   MUTATIONS=        names of mutations, all, or 1/4 for a part
#   JOBS=             how many of them at once; by default one for each CPU

SECONDS ?=
SEED ?= $(shell date +%Y%m%d)
SCHEDULE ?=
OPERATIONS ?=
SEQUENCES ?= 100
MUTATIONS ?=
JOBS ?= $(shell nproc)

seconds = $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: explore explore-known explore-all explore-sequences explore-mutations

explore: venv
	@python -m tests.explorer $(if $(SCHEDULE), \
		replay $(foreach each,$(SCHEDULE),'$(each)'), \
		some --seed $(SEED) $(seconds) --jobs $(JOBS) \
		--operations '$(OPERATIONS)')

explore-known: venv
	@python -m tests.explorer known --seed $(SEED) $(seconds) --jobs $(JOBS) \
		--operations '$(OPERATIONS)'

explore-all: venv
	@python -m tests.explorer all --seed $(SEED) $(seconds) --jobs $(JOBS) \
		--operations '$(OPERATIONS)'

explore-sequences: venv
	@python -m tests.explorer sequences --seed $(SEED) --several $(SEQUENCES)

explore-mutations: venv
	@python -m tests.explorer mutations $(MUTATIONS) \
		--seconds $(or $(SECONDS),600)
