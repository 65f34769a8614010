# Cyclonetix. `make` lists the targets.

# ARGS go to the program: make run ARGS='--agent-concurrency 8'
ARGS ?=
# RACE=1 runs the tests under the race detector; TESTARGS go to go test, PACKAGES narrows what it tests.
RACE ?=
TESTARGS ?=
PACKAGES ?= ./...

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
# The version comes from here, so Go need not ask git for it: that fails in a checkout of another user.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)'
TOOL := CGO_ENABLED=0 go tool -modfile=tools.mod
SQLC := $(TOOL) sqlc
LINT := $(TOOL) golangci-lint

# Where the tasks of the example find their tables.
TIMEZONES_DATA ?= $(CURDIR)/examples/timezones/data

# What is vetted by cross-compiling, as the tests run on one platform only.
PLATFORMS := linux/arm64 darwin/amd64 darwin/arm64

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build and start everything, with the examples loaded (ARGS='--flag value')
	@TIMEZONES_DATA='$(TIMEZONES_DATA)' exec bin/cyclonetix serve \
		--task-directory examples/timezones/tasks \
		--dag-directory examples/timezones/dags \
		--context-directory examples/timezones/contexts \
		--agent-execution-inherit-env TIMEZONES_DATA $(ARGS)

.PHONY: build
build: ## Build bin/cyclonetix
	$(BUILD) -o bin/cyclonetix ./cmd/cyclonetix

.PHONY: test
test: ## Run all tests (RACE=1, PACKAGES=./internal/spec, TESTARGS='-run Name -v')
	@RACE=$(RACE) scripts/test-needs
	$(if $(RACE),CGO_ENABLED=1 )go test $(if $(RACE),-race )$(TESTARGS) $(PACKAGES)

.PHONY: lint
lint: ## Run the linters
	$(LINT) run

.PHONY: format
format: ## Format the code
	$(LINT) fmt

.PHONY: generate
generate: ## Make package db, the schemas and the reference anew
	$(SQLC) generate
	go generate ./internal/spec/schema ./docs/reference
	@for file in db/*.sql.go; do [ -e "queries/$$(basename "$$file" .go)" ] || rm -v "$$file"; done

.PHONY: verify
verify: verify-generated verify-modules verify-format lint verify-platforms ## Check what is generated, go.mod, format, lint, other platforms

.PHONY: verify-generated
verify-generated:
	$(SQLC) diff
	@for file in db/*.sql.go; do \
		[ -e "queries/$$(basename "$$file" .go)" ] || { echo "$$file: no such file in queries/; run make generate" >&2; exit 1; }; \
	done

.PHONY: verify-modules
verify-modules:
	go mod tidy -diff

.PHONY: verify-format
verify-format:
	@unformatted=$$(gofmt -l .) && \
		{ [ -z "$$unformatted" ] || { printf 'gofmt would change (run make format):\n%s\n' "$$unformatted" >&2; exit 1; }; }

.PHONY: verify-platforms
verify-platforms:
	@for platform in $(PLATFORMS); do \
		echo "go vet for $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 go vet ./... || exit 1; \
	done

.PHONY: bench
bench: build ## Measure this machine as docs/benchmarks.md does (ARGS='--format json')
	bin/cyclonetix bench $(ARGS)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
