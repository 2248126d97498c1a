# The lab: a small real OpenStack with two hypervisors, and the package in
# it. Included by the Makefile; doc/source/contributor/lab.rst tells more.
#
# make lab          all in 30 minutes: install, up, core stories, down
# make lab-all      all profiles, all stories, all faults
# make lab-up       bring the lab up; make lab-down ends it without a trace
# make lab-test     the core stories in the lab that is up
# make lab-suites   suites of others on three clouds, and the page with results
# make lab-faults   all faults, and the page with their outcomes
# make lab-soak     random operations and faults, and what must stay true
# make lab-bench     what rescue and migration cost here, with a plot
# make lab-root     "make lab" in the root of a Debian release, on any Linux
# make lab-clean    take away all that these made
#
#   PROFILE=qcow2    where disks are: qcow2, raw, shared or rbd
#   EXT=1            0: without the package
#   NET=none         ovs: servers have ports, on Open vSwitch
#   LAB=<folder>     where the lab lives
#   LAB_ROOTS=<folder> where the roots are that "make lab-root" made
#   OLDER=           33: install this series of Nova, too, for a hypervisor
#   TESTS=           stories for "make lab-test", as unittest names them
#   MINUTES=60       how long "make lab-soak" goes on
#   SEED=            what "make lab-soak" chooses: that of the day if empty
#   ROUND=           one round of "make lab-soak" only
#   RELEASE=bookworm for "make lab-root": or trixie
#   IN_ROOT=lab      for "make lab-root": what to make there, e.g.
#                    "lab-up lab-test lab-down"
#   STAGE=           for "make lab-faults": rescue, unrescue, migration, rebuild
#   SUITES=          for "make lab-suites": plugin, openstackclient, rally,
#                    tempest-rescue, tempest-migration, tempest-live-migration,
#                    tempest-actions; all if empty
#   CLOUDS=          for "make lab-suites": off, on, latest; all if empty
#   AGAIN=1          "make lab-suites" runs also what has results already

LAB ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nova-rescue-ext-lab
LAB_ROOTS ?= $(LAB)-roots
PROFILE ?= qcow2
EXT ?= 1
NET ?= none
SUITES ?=
CLOUDS ?=
AGAIN ?=
export LAB LAB_ROOTS PROFILE EXT NET

# The first needs nothing installed, the second the lab's environment.
lab_boot = PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m tests.lab.cloud
lab_cloud = PYTHONDONTWRITEBYTECODE=1 $(LAB)/venv/bin/python -m tests.lab.cloud
lab_unittest = $(lab_cloud) run $(LAB)/venv/bin/python -m unittest -v
lab_stories = $(lab_cloud) run $(LAB)/venv/bin/python -m tests.lab.stories
lab_suites = $(if $(SUITES),--suites $(SUITES)) \
	$(if $(CLOUDS),--clouds $(CLOUDS)) $(if $(AGAIN),--again)

lab_all = $(addprefix tests.lab.test_,boot rescue rescue_image rescue_races \
	rescue_session bfv versions cli migration migration_in_doubt uefi tpm \
	rebuild upgrade half_upgraded leftovers)
# Told by two at a time ...
lab_core = tests.lab.test_versions tests.lab.test_bfv \
	tests.lab.test_rescue_session.LogIn \
	tests.lab.test_rescue_session.RescueSession.test_stable \
	tests.lab.test_uefi.Uefi.test_migration_stable \
	$(addprefix tests.lab.test_migration.LiveMigrationOfRescued., \
		test_legacy_ephemeral_and_swap test_cdrom_root) \
	$(addprefix tests.lab.test_migration.LiveMigrationOfRescuedAtWork., \
		test_there_and_back_twice_stable test_writer_stable) \
	$(addprefix tests.lab.test_rescue.Rescue.,test_legacy test_stable \
		test_cdrom test_twice) \
	$(addprefix tests.lab.test_rescue_image.RescueImage., \
		test_bad_images_are_refused_before_anything \
		test_image_that_is_not_what_it_says \
		test_stopped_before_is_stopped_after) \
	tests.lab.test_cli.CommandLine \
	$(addprefix tests.lab.test_cli.OptingIn., \
		test_version test_boot_from_volume test_live_migration_in_rescue) \
	$(addprefix tests.lab.test_migration.LiveMigration.,test_active \
		test_rescued_is_refused_by_stock) \
	$(addprefix tests.lab.test_boot.Boot.,test_from_image \
		test_from_volume test_with_all_disks)
# ... and one after the other: they let something fail, or take hosts away.
lab_core_alone = \
	tests.lab.test_cli.OptingIn.test_rebuild_of_a_server_that_never_booted \
	tests.lab.test_cli.Operator \
	tests.lab.test_migration.LiveMigrationOfRescuedAtWork.test_delete_meanwhile \
	$(addprefix tests.lab.test_migration_in_doubt.MigrationInDoubt., \
		test_copy_that_outlives_its_call test_rotated_console_logs) \
	tests.lab.test_rebuild.RebuildNeverBooted.test_after_capacity_was_added \
	$(addprefix tests.lab.test_faults.Faults., \
		test_rescue_nova_compute_later test_unrescue_qemu_at_once)

.PHONY: lab lab-all lab-install lab-up lab-down lab-status lab-test \
	lab-test-all lab-faults lab-soak lab-suites lab-bench lab-clean \
	lab-shell lab-root

# Down also after a failure, and the failure told all the same. With
# networks: there is a story about who logs in.
lab:
	@$(MAKE) lab-up NET=ovs && $(MAKE) lab-test; result=$$?; \
	$(MAKE) lab-down && exit $$result

lab-all:
	@result=0; $(MAKE) lab-install OLDER=33 || result=1; \
	for profile in qcow2 raw shared rbd; do \
		$(MAKE) lab-up PROFILE=$$profile && \
		$(MAKE) lab-test-all PROFILE=$$profile || result=1; \
		test $$profile != qcow2 || $(MAKE) lab-faults || result=1; \
		$(MAKE) lab-down || result=1; \
	done; $(MAKE) lab-suites || result=1; exit $$result

lab-install:
	@$(lab_boot) install $(OLDER)

lab-up: lab-install
	@$(lab_cloud) up

lab-down:
	@$(lab_boot) down

lab-status:
	@$(lab_boot) status

lab-shell:
	@$(lab_cloud) run bash

lab-test:
ifdef TESTS
	@$(lab_unittest) $(TESTS)
else
	@$(lab_stories) $(lab_core) --alone $(lab_core_alone)
endif

lab-test-all:
	@$(lab_unittest) $(lab_all)

lab-faults:
	@LAB_FAULTS_TABLE=1 $(lab_unittest) tests.lab.test_faults \
		$(if $(STAGE),-k Faults.test_$(STAGE)_)

lab-soak:
	@$(lab_cloud) run $(LAB)/venv/bin/python -m tests.lab.soak \
		--minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED)) \
		$(if $(ROUND),--round $(ROUND))

lab-bench:
	@$(lab_unittest) $(or $(TESTS),tests.lab.benchmarks)

# With Open vSwitch, as some of the suites want networks.
lab-suites: lab-install
	@PYTHONDONTWRITEBYTECODE=1 $(LAB)/venv/bin/python -m tests.lab.suites \
		--install $(lab_suites)
	@$(MAKE) lab-up NET=ovs && $(lab_cloud) run $(LAB)/venv/bin/python \
		-m tests.lab.suites $(lab_suites); result=$$?; \
	$(MAKE) lab-down && exit $$result

# Needs root and debootstrap.
lab-root:
	@tools/lab_root.sh $(or $(RELEASE),bookworm) $(or $(IN_ROOT),lab)

lab-clean:
	@$(lab_boot) clean
	@rm -rf --one-file-system $(LAB_ROOTS)
