# Each target is one script in scripts/; the scripts explain themselves and can be run directly.
.DEFAULT_GOAL := help
.PHONY: help demo test check soak bench fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-7s %s\n", $$1, $$2}' Makefile

demo: ## build, then show an agent stopped before it does harm (about 2 minutes the first time); KEEP=1: then its pages, too
	@scripts/demo $(if $(KEEP),--keep) || test $$? = 130 # which is Ctrl-C

test: ## every test, installing what is missing (about half an hour the first time)
	@scripts/test

check: ## the fast loop: format, lints, types, unit tests
	@scripts/check

soak: ## the property tests of undo with 20 times the cases; SOAK=100 for more
	@scripts/soak $(SOAK)

bench: ## the speed of a check against a no-op handler and a peer; BENCH=--quick for a short run
	@scripts/bench $(BENCH)

fmt: ## format Rust, Python and TypeScript
	@scripts/fmt

clean: ## remove what builds and tests left in the tree
	@scripts/clean
