# make         builds the daemon (target/release/ipcd) and the shim (target/release/libipc.so)
# make demo    shows redis-server and redis-benchmark moving from TCP to a Unix-domain socket
# make test    format, lints, build, every test; ends with "N passed, N failed, N skipped"
# make bench   every measurement (less than 20 minutes), into docs/results; make bench-quick: the short form (2 minutes)
# make install PREFIX=/usr/local, and make clean
#
# Run as root, each target installs the Debian packages that it needs; otherwise it lists the missing ones.

PREFIX ?= /usr/local
CARGO ?= cargo
# Finds a cargo from rustup even in a shell that has not got it on its path yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# All output goes to target/, where ipcd, the tests and the measurements look for each other.
export CARGO_TARGET_DIR := $(CURDIR)/target
BENCH := target/release/bench

# Explores every interleaving of the code by which libipc's threads synchronize (docs/switch.md has the rest).
LOOM := RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(CURDIR)/target/loom $(CARGO) test --locked -p libipc --release loom

.PHONY: all build demo test bench bench-quick install clean packages-%

all: build

packages-%:
	@.ci/packages $*

build: packages-build
	$(CARGO) build --release --locked -p ipcd -p libipc

demo: packages-demo
	@$(CARGO) build --release --locked --quiet -p ipcd -p libipc -p bench
	@$(BENCH) demo --rounds 3

test: packages-test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) build --release --locked -p ipcd -p libipc
	@.ci/totals sh -c '$(CARGO) test --locked --workspace --no-fail-fast; all=$$?; $(LOOM) && exit $$all'

bench-quick: packages-quick
	$(CARGO) build --release --locked -p ipcd -p libipc -p bench
	$(BENCH) run --quick

bench: packages-bench
	$(CARGO) build --release --locked -p ipcd -p libipc -p bench
	$(BENCH) run

install: build
	install -D -m 755 target/release/ipcd $(DESTDIR)$(PREFIX)/bin/ipcd
	install -D -m 644 target/release/libipc.so $(DESTDIR)$(PREFIX)/lib/libipc.so

clean:
	$(CARGO) clean
