# Each target is one or two plain commands; `make` alone lists them.
.PHONY: help demo test faults check bench fmt

# one build of the whole workspace serves every target: building one package alone would choose other features
BINARY := $${CARGO_TARGET_DIR:-target}/debug/truerelay

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: ## start the relay with a simulated provider and print a first request
	cargo build --workspace --bins --locked
	@exec $(BINARY) demo

test: ## run every test; starts and stops what it needs
	tests/run

faults: ## run the fault tests that take minutes; starts and stops what they need
	tests/run faults

check: ## formatting, lints, documentation, house rules, dependencies, API documents
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cargo test --workspace --test tidy --locked
	cargo build --workspace --bins --locked
	$(BINARY) openapi --check

bench: ## measure the relay beside nginx; results go to tests/bench/results
	tests/bench/run

fmt: ## format the code
	cargo fmt --all
