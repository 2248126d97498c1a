# Whether the tests would notice a fault. Included by the Makefile;
# doc/source/contributor/mutants.rst tells more.
#
# make mutants        change COUNT places at random, and run what covers them
# make mutants-again  the survivors that are not explained, with more tests
# make mutants-page   keep the results in git, and write the page
# make mutants-map    which tests execute what (an hour the first time)
#
#   AREA=             a folder of the package; all if empty
#   SEED=             what is chosen; by default that of the day
#   COUNT=20          how many places
#   BUDGET=60         seconds of tests for each

AREA ?=
COUNT ?= 20
BUDGET ?= 60

mutants = nice -n 15 python -m tests.mutants

.PHONY: mutants mutants-again mutants-page mutants-map

mutants: mutants-map
	@$(mutants) run --area '$(AREA)' --seed '$(SEED)' --count $(COUNT) \
		--budget $(BUDGET)

mutants-again: mutants-map
	@$(mutants) again --area '$(AREA)' --budget $(BUDGET)

mutants-page: venv
	@$(mutants) page

# Only modules of tests that have changed since.
mutants-map: venv
	@$(mutants) map
