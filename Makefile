# One short target for each thing that a person does; CI calls the same ones. `make` lists them.
#
# Everything else that a target needs it installs (Debian or Ubuntu, as root or with sudo) or names.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export RUST_BACKTRACE ?= 1

image ?= alinas-csi:dev

as_root := $(if $(filter 0,$(shell id -u)),,sudo)
# What the build needs of the machine: a C compiler, cmake and perl, for the cryptography.
debian := gcc libc6-dev make cmake perl
tools := cc cmake perl

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: needs ## show the driver at work: an encrypted kernel mount, and what happens when its tunnel is killed
	e2e/lab/setup
	cargo build --workspace --bins --locked
	e2e/lab/run "$${CARGO_TARGET_DIR:-target}/debug/demo"

.PHONY: test
test: needs ## run every test, those of the kernel in the lab
	e2e/run-tests

.PHONY: plans
plans: needs ## run the test plans of a mount alone, on the lab's kernel or another (kernel=6.12)
	LAB_KERNEL=$(or $(kernel),default) e2e/run-tests plans

.PHONY: cluster
cluster: needs ## run the tests of the chart on a real Kubernetes in the lab (not a part of CI: the first time it builds one, an hour)
	e2e/run-tests cluster $(only)

.PHONY: faults
faults: needs ## kill, stop, cut off and confuse everything around mounts in use, three times in a row: an hour (faults=50 blows)
	e2e/faults $(or $(faults),50)

.PHONY: reboot
reboot: needs ## follow the vendor's page on a machine with systemd that is restarted, with both packages, in a guest
	e2e/run-tests boot --nocapture

.PHONY: bench
bench: needs ## print what a tunnel costs beside stunnel and haproxy, what NodeStageVolume, option texts and scrapes cost (options=--quick)
	e2e/lab/setup
	cargo build --workspace --bins --locked
	cargo build --release --workspace --bin alinas-csi --bin tunnel_bench --locked
	"$${CARGO_TARGET_DIR:-target}/release/tunnel_bench" $(options) \
	  --binary "$${CARGO_TARGET_DIR:-target}/release/alinas-csi"
	"$${CARGO_TARGET_DIR:-target}/debug/stage_cost"
	"$${CARGO_TARGET_DIR:-target}/debug/parse_cost"
	"$${CARGO_TARGET_DIR:-target}/debug/scrape_cost" --binary "$${CARGO_TARGET_DIR:-target}/release/alinas-csi"

.PHONY: removal
removal: needs ## print how fast the controller removes a large tree in the background, and in how much memory (files=1000000)
	ALINAS_CSI_FILES=$(or $(files),1000000) e2e/run-tests native a_large_tree_is_removed --nocapture

.PHONY: fuzz
fuzz: debian += g++
fuzz: tools += c++
fuzz: needs ## fuzz what reads texts of others, for a short while each (seconds=12)
	fuzz/run $(or $(seconds),12)

.PHONY: leaks
leaks: needs ## look for memory that is never given back: the unit tests and whole runs of the command under LeakSanitizer
	e2e/leaks

.PHONY: coverage
coverage: needs ## print how much of src/nfs the tests reach (lab=yes: those in the lab too; folder=src/…: another)
	e2e/coverage $(if $(filter yes,$(lab)),--lab) $(folder)

.PHONY: differences
differences: needs ## write docs/differences-from-mount-nfs.md anew: every case with mount.nfs and with ours, in the lab
	e2e/differences

.PHONY: check
check: debian += g++
check: tools += c++
check: needs shellcheck chart ## format, lints, scripts, chart, links: what needs no test run
	docs/check
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/fuzz" cargo clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings

.PHONY: build
build: needs ## build the binary for this machine (target/release/alinas-csi)
	cargo build --release --locked --bin alinas-csi

.PHONY: fips
fips: needs ## test and build with AWS-LC's FIPS module (needs Go; minutes of processor time; not a part of CI)
	@command -v go >/dev/null || { echo "go is missing; the FIPS module is built with it" >&2; exit 1; }
	cargo test --locked --features fips --lib tls::
	cargo build --release --locked --features fips --bin alinas-csi

.PHONY: otlp
otlp: needs ## lint and test with the feature otlp: spans sent to a collector (not a part of CI)
	cargo clippy --locked --features otlp --lib --tests -- -D warnings
	cargo test --locked --features otlp --lib otlp::

.PHONY: packages
packages: $(if $(binary),,build) ## build the packages of mount -t alinas for hosts, .deb and .rpm, in target/packages (binary=FILE: of another build)
	packaging/build $(if $(binary),--binary $(binary))

.PHONY: image
image: ## build the container image, with docker, podman or buildah (image=name:tag arch=arm64; base=local: without a registry)
	packaging/image --tag $(image) $(if $(filter-out undefined,$(origin arch)),--arch $(arch)) \
	  $(if $(base),--base $(base)) $(if $(archive),--archive $(archive))

.PHONY: chart
chart: ## lint the chart, render it with its cases, compare deploy/ with it (write=yes renews deploy/)
	charts/check $(if $(filter yes,$(write)),--write)

.PHONY: docs
docs: ## build the documents into a site (target/book/site) and check its links; the first time it builds mdbook, minutes
	docs/build

.PHONY: deny
deny: ## check licences and sources of the dependencies (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || \
	  { echo "cargo-deny is missing; get it with: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny --all-features check bans licenses sources

.PHONY: clean
clean: ## remove what was built here (the cache in ~/.cache/alinas-csi stays)
	cargo clean

.PHONY: shellcheck
shellcheck:
	@command -v shellcheck >/dev/null || { $(as_root) apt-get update -qq && \
	  $(as_root) apt-get install -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=300 shellcheck >/dev/null; }
	git grep -lI -E '^#!.*[/ ](ba)?sh$$' | xargs shellcheck --external-sources

.PHONY: needs
needs:
	@command -v cargo >/dev/null || { echo "cargo is missing; this project needs a Rust toolchain," \
	  "$$(sed -nE 's/^rust-version = "(.*)"/\1/p' Cargo.toml) or later: https://rustup.rs" >&2; exit 1; }
	@missing=$$(for package in $(debian); do \
	    dpkg-query --show --showformat='$${db:Status-Status}\n' "$$package" 2>/dev/null | \
	      grep -qx installed || echo "$$package"; done); \
	if [[ -n $$missing ]] && ! type $(tools) >/dev/null 2>&1; then \
	  command -v apt-get >/dev/null || { echo "a C compiler, cmake and perl are needed" >&2; exit 1; }; \
	  echo "installing" $$missing; $(as_root) apt-get update -qq; \
	  $(as_root) env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=300 $$missing >/dev/null; \
	fi
