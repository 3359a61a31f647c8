# SPDX-License-Identifier: MIT OR Apache-2.0
#
# make            the program, its pages and the shells' completions
# make setup      installs what the targets below need, by apt-get and as root; otherwise it says what is missing
# make demo       the storm on a real kernel in a guest, stock udev and addonce beside each other (CPUS=255 for more)
# make check      formatting, lints, tests, the oracle, an installation, packages, guests: half an hour at most on 2 idle
#                 cores, the seconds of each step at the end; as root, for it boots whole Debians from a disk
# make check-long all of that, and the same with more CPUs and more time: two hours more
# make bench      what a duplicate, a storm, a client, a boot costs, beside its peers: writes docs/PERFORMANCE.md and its
#                 picture. As root, for it boots a whole Debian. Over two hours on 2 idle cores (of each round, 9
#                 minutes are the boots); stopped and begun again it goes on where it was (BENCH_ROUNDS=1 for less)
# make fuzz       long fuzzing (needs cargo-fuzz and a nightly toolchain)
# make run        the daemon on this machine; dry-run where it may not or cannot load
# make man        the pages, in target/man: man -l target/man/addonce.8
# make install DESTDIR= PREFIX=    what make built; make uninstall removes exactly that
# make deb        a package for Debian, in target/packages; make rpm for others; make dist the source of the last commit
#
# Only setup installs packages; demo, check and bench begin with it. Everything built is under target/.

# What fails half-way is not taken for made.
.DELETE_ON_ERROR:

CARGO ?= cargo
CPUS ?= 64
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
# Where systemd looks for units, also below /usr/local.
UNITDIR ?= $(PREFIX)/lib/systemd/system
# For hwdb.d, which udev reads below /usr and /etc only. Elsewhere nobody reads our file, and addonce has its entries built in.
UDEVDIR ?= $(PREFIX)/lib/udev
# The rules are to win over systemd's file of the same name, and /etc is the first place where udev looks. An image whose /etc is empty
# has them in place of that file: RULESDIR=/usr/lib/udev/rules.d.
RULESDIR ?= $(SYSCONFDIR)/udev/rules.d
# Where generators of an initramfs look for hooks; with PREFIX=/usr it is where they do look.
INITRAMFS_TOOLS ?= $(PREFIX)/share/initramfs-tools
DRACUT ?= $(PREFIX)/lib/dracut/modules.d
MKINITCPIO ?= $(PREFIX)/lib/initcpio
DESTDIR ?=
MSRV = 1.85.0

# Where everything below looks for what cargo built, whatever an environment or a configuration says.
export CARGO_TARGET_DIR := $(CURDIR)/target
# sbin, too, which a user's often lacks.
export PATH := $(PATH):/usr/sbin:/sbin
# As an argument. With $(MAKE) itself in a line, `make -n` would run the line.
THIS_MAKE = $(MAKE)

ADDONCE = target/release/addonce
ADDONCE_LOAD = target/release/addonce-load
ADDONCE_MODPROBE = target/release/addonce-modprobe
# Built with the tests, with which it shares its profile and most of its dependencies.
LAB = target/debug/lab
COMPLETIONS = target/completions

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
UNITS = $(patsubst %.in,%,$(notdir $(wildcard systemd/*)))
FOR = target/for$(PREFIX)$(RULESDIR)
PAGES = $(patsubst man/%.scd,target/man/%,$(wildcard man/*.scd))

# What is installed: its mode, the file, and where it goes.
INSTALLED = \
	755:$(ADDONCE):$(PREFIX)/bin/addonce \
	755:$(ADDONCE_LOAD):$(PREFIX)/bin/addonce-load \
	755:$(ADDONCE_MODPROBE):$(PREFIX)/bin/addonce-modprobe \
	644:hwdb/60-addonce.hwdb:$(UDEVDIR)/hwdb.d/60-addonce.hwdb \
	644:$(FOR)/80-drivers.rules:$(RULESDIR)/80-drivers.rules \
	$(foreach unit,$(UNITS),644:$(FOR)/$(unit):$(UNITDIR)/$(unit)) \
	755:$(FOR)/restore-modprobe:$(PREFIX)/lib/addonce/restore-modprobe \
	755:$(FOR)/initramfs/policy:$(PREFIX)/lib/addonce/initramfs-policy \
	755:$(FOR)/initramfs/initramfs-tools/hooks/addonce:$(INITRAMFS_TOOLS)/hooks/addonce \
	755:$(FOR)/initramfs/dracut/module-setup.sh:$(DRACUT)/99addonce/module-setup.sh \
	644:$(FOR)/initramfs/mkinitcpio/install/addonce:$(MKINITCPIO)/install/addonce \
	644:$(FOR)/docs/initramfs.md:$(PREFIX)/share/doc/addonce/initramfs.md \
	755:initramfs/busybox/init:$(PREFIX)/lib/addonce/initramfs-busybox-init \
	644:$(FOR)/README.md:$(PREFIX)/share/doc/addonce/README.md \
	644:contrib/addonce.rules.yml:$(PREFIX)/share/doc/addonce/examples/addonce.rules.yml \
	644:contrib/addonce-dashboard.json:$(PREFIX)/share/doc/addonce/examples/addonce-dashboard.json \
	644:$(FOR)/addonce.openrc:$(PREFIX)/share/doc/addonce/examples/addonce.openrc \
	644:$(FOR)/addonce.runit:$(PREFIX)/share/doc/addonce/examples/addonce.runit \
	$(foreach page,$(PAGES),644:$(page):$(PREFIX)/share/man/man$(subst .,,$(suffix $(page)))/$(notdir $(page))) \
	644:$(COMPLETIONS)/addonce.bash:$(PREFIX)/share/bash-completion/completions/addonce \
	644:$(COMPLETIONS)/_addonce:$(PREFIX)/share/zsh/site-functions/_addonce \
	644:$(COMPLETIONS)/addonce.fish:$(PREFIX)/share/fish/vendor_completions.d/addonce.fish
# Directories that are nobody else's.
INSTALLED_DIRS = $(PREFIX)/share/doc/addonce/examples $(PREFIX)/share/doc/addonce $(PREFIX)/lib/addonce $(DRACUT)/99addonce

all: build man completions

# What udev and the kernel run is linked statically: a third of what they pay for it would go to the dynamic linker. It is not
# relocated either: that writes to six pages more in each process, which an emulated guest takes longer for than for all the rest.
build:
	$(CARGO) build --release --locked
	set -e; for program in addonce-load addonce-modprobe; do \
		$(CARGO) rustc --release --locked -p addonce-load --bin $$program -- \
			-C target-feature=+crt-static -C relocation-model=static; \
	done

lab:
	$(CARGO) build --locked -p addonce-lab

man: $(PAGES)

# Names such as io.addonce are not to be hyphenated; .TH would turn hyphenation on again before it.
target/man/%: man/%.scd
	@mkdir -p $(@D)
	scdoc <$< >$@.scdoc
	sed '/^\.TH /a .nh' $@.scdoc >$@
	@rm $@.scdoc

# In the tests' profile, whose dependencies it shares.
completions:
	$(CARGO) run --locked --quiet --example completions $(COMPLETIONS)

setup:
	@tools/setup

# One at a time in this tree: demo, check, check-long and bench.
demo:
	@tools/alone demo $(THIS_MAKE) --no-print-directory demo-alone

demo-alone:
	@tools/setup build guest
	$(MAKE) --no-print-directory build lab
	$(LAB) demo --cpus $(CPUS) --addonce $(ADDONCE) --out target/demo/result.json

run: build
	tools/run $(ADDONCE)

CHECKS = setup all check-style check-msrv check-unit check-install check-initramfs check-units check-packages check-fuzz \
	check-guest check-boot
check: check-root
	@tools/alone check tools/steps $(THIS_MAKE) check $(CHECKS)

# What a small machine shows, a big one need not show at every change: more CPUs, more devices, more time.
check-long: check-root
	@tools/alone check-long tools/steps $(THIS_MAKE) check-long $(CHECKS) check-flood check-guest-long check-boot-long \
		check-rpm check-inits check-releases check-unit-long

# Lints of what is built: everything, and the programs once more without the features that can be left out.
check-style:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --all-targets -- -D warnings

# Only where that toolchain is there: none is fetched.
check-msrv:
	@if rustup toolchain list 2>/dev/null | grep -q '^$(MSRV)-'; then \
		set -x; $(CARGO) +$(MSRV) check --locked --target-dir target/msrv; \
	else \
		tools/not-checked check-msrv "Rust $(MSRV) is not installed here"; \
	fi

# `cargo test` alone says which tests it could not run; here none may be left out. Root's are run as nobody, too, where that
# makes a difference, and with a user's PATH; who is nobody may not write below /sys, which kernel_facts says.
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "PATH=/usr/local/bin:/usr/bin:/bin"]
check-unit: lab
	tools/varlink
	$(LAB) tree
	ADDONCE_LEAVE_OUT=nothing $(CARGO) test --locked --workspace
	@[ "$$(id -u)" = 0 ] || exit 0; \
	if setpriv --reuid=65534 --regid=65534 --clear-groups test -x target/debug/addonce -a -r Cargo.toml; then \
		as_nobody() { (set -x; $(CARGO) test --locked --workspace --config 'target."cfg(unix)".runner=$(AS_NOBODY)' "$$@"); }; \
		ADDONCE_LEAVE_OUT=nothing as_nobody --test cli --test rules --test hwdb && as_nobody --test kernel_facts; \
	else \
		tools/not-checked check-unit "nobody may not read this tree: the tests of who is not root"; \
	fi

# More cases than a change has time for, and others.
check-unit-long:
	ADDONCE_TEST_LONG=1 $(CARGO) test --locked --workspace --test hold
	ADDONCE_TEST_LONG=1 $(CARGO) test --locked -p addonce-load --test modprobe
	seed=$$(date +%s); set -x; \
		ADDONCE_CASES=300000 ADDONCE_SEED=$$seed $(CARGO) test --locked --workspace --test model

check-install: all
	tools/check-install $(THIS_MAKE)

check-initramfs: all
	tools/check-initramfs $(THIS_MAKE)

check-units: build
	tools/check-units $(dir $(ADDONCE))

check-packages: deb rpm
	tools/check-packages $(THIS_MAKE)

# As check-packages, and from a source archive: it is built once more for that.
check-rpm: rpm
	tools/check-rpm $(THIS_MAKE)

# OpenRC and runit.
check-inits: all
	tools/check-inits $(THIS_MAKE)

# A short run, only where cargo-fuzz and a nightly toolchain are there: none is fetched. `make fuzz` runs longer.
FUZZ_SECONDS ?= 10
check-fuzz:
	@if $(CARGO) +nightly fuzz --version >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=$(FUZZ_SECONDS); \
	else \
		tools/not-checked check-fuzz "cargo-fuzz with a nightly toolchain is not installed here"; \
	fi

fuzz: FUZZ_SECONDS = 600
fuzz:
	set -e; for target in datagram capture control; do \
		mkdir -p fuzz/corpus/$$target; \
		CARGO_TARGET_DIR=$(CURDIR)/fuzz/target $(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0; \
	done

check-flood:
	ADDONCE_FLOOD=1000000 $(CARGO) test --locked --test flood --test autoload

# What a duplicate costs, a modalias and a module, what a storm of 8192 CPUs takes of memory, and what a thousand clients cost
# it, and what udev pays for one question; a million hostile devices; in guests, each way to load modules, by turns; and a
# whole Debian that boots, stock and with the package. Nothing else should run meanwhile. The guests' file is kept and
# completed: remove it to measure the same build again. Guests come first: benches are built with other features, and leave
# another addonce behind.
BENCH_ROUNDS ?= 3
BENCH_CPUS ?= 8,64,255
BENCHES = target/bench
GUESTS = $(BENCHES)/guests.json
NEWER = $(BENCHES)/trixie.json
bench: check-root
	@tools/alone bench $(THIS_MAKE) --no-print-directory bench-alone

bench-alone:
	@tools/setup
	$(MAKE) --no-print-directory deb lab
	$(LAB) bench --rounds $(BENCH_ROUNDS) --cpus $(BENCH_CPUS) --addonce $(ADDONCE) \
		--deb target/packages/addonce_*.deb --out $(GUESTS)
	$(LAB) bench --rounds $(BENCH_ROUNDS) --cpus $(BENCH_CPUS) --release trixie --addonce $(ADDONCE) --out $(NEWER)
	ADDONCE_TREE="$$($(LAB) tree)" \
		$(CARGO) bench --locked --bench duplicate --bench once --bench memory --bench clients --bench exec
	ADDONCE_FLOOD=1000000 $(CARGO) test --locked --release --test flood -- --nocapture
	$(LAB) report $(GUESTS) $(NEWER) --benches $(BENCHES) >$(BENCHES)/PERFORMANCE.md
	$(LAB) curves $(GUESTS) >$(BENCHES)/scale.json
	$(CARGO) run --locked --quiet --example curves <$(BENCHES)/scale.json >$(BENCHES)/scale.svg
	cp $(BENCHES)/PERFORMANCE.md $(BENCHES)/scale.svg docs/

# At once, and not when the first Debian is to boot.
check-root:
	@[ "$$(id -u)" = 0 ] || { echo "$(MAKECMDGOALS): a whole Debian is booted, which needs root: run it as root" >&2; exit 1; }

# The storm of 64 CPUs: stock, the service, and the rule program without one. Where no storm is the point fewer do: no udev, and
# rules of an administrator's. And with fixture modules alone: one device after the other, whatever may be broken, modules that
# hang, and modules that fail and are fixed. What takes longer is left to check-long: whoever takes part killed again and again, and
# how long a load takes beside strangers, and storms of the kernel's own requests, which is measured and a busy machine can spoil.
CHECK_WAYS = service program
CHECK_OTHERS = scan rules
CHECK_KILLS = kill kill-program
CHECK_FIXTURES = singles broken hang
check-guest: build lab
	$(LAB) demo $(CHECK_WAYS) --cpus 64 --addonce $(ADDONCE) --out target/check/storm.json
	$(LAB) demo $(CHECK_OTHERS) --cpus 8 --timeout 600 --addonce $(ADDONCE) --out target/check/others.json
	set -e; for each in $(CHECK_FIXTURES); do \
		$(LAB) run $$each --cpus 8 --addonce $(ADDONCE) --out target/check/$$each.json; \
	done
	$(LAB) fixes --cpus 8 --timeout 600 --addonce $(ADDONCE) --out target/check/fixes.json

check-guest-long: build lab
	$(LAB) demo $(CHECK_KILLS) --cpus 16 --timeout 1200 --addonce $(ADDONCE) --out target/check/kills-16.json
	$(LAB) demo $(CHECK_OTHERS) $(CHECK_KILLS) --cpus 64 --timeout 1800 --addonce $(ADDONCE) --out target/check/others-64.json
	$(LAB) demo $(CHECK_WAYS) $(CHECK_OTHERS) --cpus 255 --addonce $(ADDONCE) --out target/check/ways-255.json
	$(LAB) fixes --cpus 255 --timeout 600 --addonce $(ADDONCE) --out target/check/fixes-255.json
	$(LAB) run strangers --cpus 8 --timeout 600 --addonce $(ADDONCE) --out target/check/strangers.json
	$(LAB) run request --cpus 2 --timeout 900 --addonce $(ADDONCE) --out target/check/request.json
	$(LAB) request target/check/request.json
	$(LAB) run names --cpus 2 --timeout 600 --addonce $(ADDONCE) --out target/check/names.json

# Newer Debians: it is built there with their own Rust, and what was built here is installed there, gets into their images, and meets
# their kernel, udev and kmod. Their udev may have new rules.
RELEASES = trixie
check-releases: check-root deb rpm lab
	set -e; for release in $(RELEASES); do \
		ADDONCE_STOCK_RULES="$$(tools/debian-root $$release)/usr/lib/udev/rules.d/80-drivers.rules" \
			$(CARGO) test --locked --test rules everything_else; \
		tools/check-build $$release; \
		tools/check-packages $(THIS_MAKE) $$release; \
		tools/check-initramfs $(THIS_MAKE) $$release; \
		tools/check-inits $(THIS_MAKE) $$release; \
		tools/check-oracle $$release; \
		on="--release $$release --addonce $(ADDONCE)"; \
		$(LAB) demo $(CHECK_WAYS) --cpus 64 $$on --out target/check/storm-$$release.json; \
		$(LAB) run singles --cpus 8 $$on --out target/check/singles-$$release.json; \
		$(LAB) fixes --cpus 8 --timeout 600 $$on --out target/check/fixes-$$release.json; \
	done

# A whole Debian, as root: stock; with the package installed (an initramfs of update-initramfs, then the daemon restarted and
# killed); an initramfs of dracut; one without udev; and with the package purged.
CHECK_BOOTS = boot-service boot-dracut boot-busybox boot-purged
check-boot: check-root deb lab
	$(LAB) boot $(CHECK_BOOTS) --cpus 8 --deb target/packages/addonce_*.deb --out target/check/boot.json

check-boot-long: check-root deb lab
	$(LAB) boot $(CHECK_BOOTS) boot-request --cpus 64 --deb target/packages/addonce_*.deb --out target/check/boot-64.json

# What names other files that are installed is made for a PREFIX.
RENDERED = $(filter $(FOR)/%,$(subst :, ,$(INSTALLED)))
RENDER = @mkdir -p $(@D); sed -e 's|@BINDIR@|$(PREFIX)/bin|g' -e 's|@LIBDIR@|$(PREFIX)/lib|g' \
	-e 's|@RULESDIR@|$(RULESDIR)|g' $< >$@

$(FOR)/%: rules.d/%.in
	$(RENDER)

$(FOR)/%: systemd/%.in
	$(RENDER)

$(FOR)/%: systemd/%
	$(RENDER)

$(FOR)/%: contrib/%.in
	$(RENDER)

$(FOR)/%: packaging/%.in
	$(RENDER)

$(FOR)/initramfs/%: initramfs/%.in
	$(RENDER)

$(FOR)/initramfs/%: initramfs/%
	$(RENDER)

# Without pictures, and without links to files that are not installed: their names stay.
$(FOR)/%.md: %.md
	@mkdir -p $(@D)
	sed -e '/^!\[/d' -e 's/\[\([^]]*\)\]([^)]*)/\1/g' $< >$@

install: $(RENDERED)
	@set -e; for each in $(INSTALLED); do \
		mode=$${each%%:*} file=$${each#*:}; \
		(set -x; install -D -m $$mode "$${file%:*}" "$(DESTDIR)$${file#*:}"); \
	done
	@[ -n "$(DESTDIR)" ] || echo "$(TAKE_EFFECT)"

# The paths that `make install` installs, for those who compare; directories that are nobody else's end in a slash.
list-installed:
	@for each in $(INSTALLED) $(addsuffix /,$(INSTALLED_DIRS)); do echo $${each##*:}; done

# The kernel is not to run a helper that is gone.
uninstall:
	@[ -n "$(DESTDIR)" ] || [ ! -x $(PREFIX)/lib/addonce/restore-modprobe ] || $(PREFIX)/lib/addonce/restore-modprobe
	@set -e; for each in $(INSTALLED); do \
		(set -x; rm -f "$(DESTDIR)$${each##*:}"); \
	done
	@set -e; for directory in $(INSTALLED_DIRS); do \
		[ ! -d "$(DESTDIR)$$directory" ] || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$$directory"; \
	done
	@$(if $(filter /usr/lib/udev/rules.d /lib/udev/rules.d,$(RULESDIR)),echo "udev is without 80-drivers.rules: install udev's package again")
	@[ -n "$(DESTDIR)" ] || echo "$(TAKE_LEAVE)"

RELOAD = systemd-hwdb update; udevadm control --reload; systemctl daemon-reload
TAKE_EFFECT = for this to take effect: $(RELOAD); systemctl enable --now addonce.socket addonce.service; \
	update-initramfs -u, dracut --force or mkinitcpio -P$(EUDEV)
EUDEV = . With eudev: udevadm hwdb --update in place of systemd-hwdb
# With the units gone, disabling would not find what to disable.
TAKE_LEAVE = for this to take effect: systemctl stop addonce.socket addonce.service; \
	rm -f /etc/systemd/system/*.wants/addonce.*; $(RELOAD); update-initramfs -u, dracut --force or mkinitcpio -P$(EUDEV)

# Debian's tools leave their files beside and above the source, so they get a place of their own. -d: the Rust toolchain
# need not be Debian's.
deb: check-path all
	@[ "$$(dpkg-parsechangelog -S Version)" = $(VERSION) ] || { \
		echo "debian/changelog is about $$(dpkg-parsechangelog -S Version), and Cargo.toml about $(VERSION)" >&2; exit 1; }
	rm -rf target/deb
	mkdir -p target/deb/addonce target/packages
	cp -R debian target/deb/addonce/debian
	cd target/deb/addonce && SOURCE=$(CURDIR) dpkg-buildpackage --build=binary -us -uc -d >../log 2>&1 || { cat ../log; exit 1; }
	rm -f target/packages/*.deb
	cp target/deb/*.deb target/packages/
	@ls target/packages/*.deb

# With the files that are built already. --nodeps: the Rust toolchain need not be rpm's.
rpm: check-path all
	@grep -qx 'Version: $(VERSION)' packaging/addonce.spec || { \
		echo "packaging/addonce.spec has another version than Cargo.toml, $(VERSION)" >&2; exit 1; }
	rm -rf target/rpm
	mkdir -p target/rpm target/packages
	rpmbuild -bb --build-in-place --nodeps --define "_topdir $(CURDIR)/target/rpm" packaging/addonce.spec >target/rpm/log 2>&1 || { \
		cat target/rpm/log; exit 1; }
	rm -f target/packages/*.rpm
	cp target/rpm/RPMS/*/*.rpm target/packages/
	@ls target/packages/*.rpm

# The source of the last commit.
dist:
	mkdir -p target/packages
	git archive --prefix=addonce-$(VERSION)/ -o target/dist.tar.gz HEAD
	mv target/dist.tar.gz target/packages/addonce-$(VERSION).tar.gz

# Make itself and rpmbuild take a path for several words.
check-path:
	@[ $(words $(CURDIR)) = 1 ] || { \
		echo "$(MAKECMDGOALS): a package cannot be made in a directory with a space in its name" >&2; exit 1; }

clean:
	$(CARGO) clean

.PHONY: all build lab man completions setup demo run check check-long check-style check-msrv check-unit check-install \
	check-initramfs check-units check-packages check-rpm check-inits check-fuzz check-flood check-guest check-guest-long check-boot \
	check-boot-long check-releases check-root fuzz bench install list-installed uninstall deb rpm dist clean
