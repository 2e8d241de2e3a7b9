# One set of artifacts serves demo, tests and soak: the dev profile (dependencies optimised) with the failpoints built in.
# Only `make bench` and releases use the release profile.
FLAGS := --locked --features failpoints
INSTALL := tests/tools/install
SOAK_CYCLES ?= 200
FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help build demo demo-k8s test e2e unit soak bench bench-operator fuzz fmt lint deny crds config cluster-up cluster-down cluster-smoke clean rust

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: rust ## build the binaries (target/debug/tidemark and its kubectl plugin)
	$(INSTALL) packages
	cargo build $(FLAGS)

demo: rust ## lose a table on a real MySQL and get it back: under 3 minutes after the build
	$(INSTALL) demo
	cargo build $(FLAGS)
	cargo run $(FLAGS) --example demo

demo-k8s: rust ## the same by the operator: on a cluster started for it, or on that of KUBECONFIG
	tests/e2e/run --example demo-k8s

test: rust ## everything: format, lints, licences, unit tests, tests on real servers and on a real Kubernetes
	$(INSTALL) test
	cargo fmt --check
	$(MAKE) lint deny
	cargo test $(FLAGS)
	cargo run $(FLAGS) --example demo
	tests/e2e/run

e2e: rust ## the long tests of the operator on a real Kubernetes, too: chaos, outage, failover, power cuts, upgrade, retention; E2E=name for one
	tests/e2e/run --include-ignored $(E2E)

unit: rust ## only the tests that need no server
	cargo test $(FLAGS) --lib --bins

soak: rust ## the crash oracle for SOAK_CYCLES (200) cycles on each flavor, then a 2 GiB transaction and a 200 MiB row
	$(INSTALL) test
	@cargo test $(FLAGS) --test it -- --list crash:: | grep ': test$$' || { echo 'there is no crash oracle in tests/it' >&2; exit 1; }
	TIDEMARK_SOAK_CYCLES=$(SOAK_CYCLES) cargo test $(FLAGS) --test it -- --nocapture --test-threads 1 crash::
	TIDEMARK_LONG=1 cargo test $(FLAGS) --test it -- --nocapture --test-threads 1 memory::

bench: rust ## compare with mysqlbinlog, mysqldump, mydumper: BENCH=name for one (release build)
	$(INSTALL) bench
	cargo bench --locked --bench peers -- $(BENCH)

bench-operator: rust ## what 1,000 policies cost: time of a look, API requests at rest, memory (goal: 128 MiB; release build)
	$(if $(TIDEMARK_BINARY),,cargo build --locked --release --bin tidemark)
	TIDEMARK_BINARY=$(or $(TIDEMARK_BINARY),$(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release/tidemark) tests/e2e/run --example bench-operator

fuzz: rust ## each fuzz target for FUZZ_SECONDS (600)
	$(INSTALL) fuzz
	tests/tools/fuzz $(FUZZ_SECONDS)

fmt: rust ## format the sources
	cargo fmt

lint: rust ## clippy, warnings denied
	cargo clippy $(FLAGS) --all-targets -- -D warnings
	cargo clippy $(FLAGS) --test e2e -- -D warnings
	@cargo tree --quiet --locked --manifest-path fuzz/Cargo.toml >/dev/null

deny: rust ## dependencies: licences, sources, banned crates, and advisories where they can be fetched
	$(INSTALL) cargo-deny
	tests/tools/deny

crds: rust ## write crds/, and the chart's copy of it, from the Rust types
	TIDEMARK_WRITE_CRDS=1 cargo test $(FLAGS) --lib the_files_in_crds_and_in_the_chart_are_what_the_types_say

config: ## write what config/ has for kustomize and Prometheus, from the chart
	tests/tools/config

cluster-up: ## start a real Kubernetes on this machine, for tests (about 10 s; the first time builds it)
	@tests/cluster/cluster up

cluster-down: ## end it and leave nothing behind
	@tests/cluster/cluster down

cluster-smoke: build ## prove that it is one: databases, S3, volumes, DNS, a reboot, and nothing left after
	tests/cluster/image --same
	tests/cluster/smoke

clean: ## remove what was built here (the cache of servers stays)
	cargo clean

rust:
	@command -v cargo >/dev/null || { echo 'Rust is missing: install it as https://rustup.rs says, then try again' >&2; exit 1; }
