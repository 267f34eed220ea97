# Thin calls to the presets; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
JOBS ?= $(shell nproc)
RELEASE := build/release/workspace-operator
VERSION := $(shell sed -nE 's/^project.* VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
IMAGE ?= localhost/workspace-operator:$(VERSION)

.PHONY: help deps build test campaign check fmt lint run demo bench image clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

deps: ## install what building, running and testing need (Debian packages, kubectl)
	@.ci/deps

build: deps ## build the optimised program: build/release/workspace-operator
	@cmake --preset release > /dev/null
	@cmake --build --preset release --target workspace-operator -j $(JOBS)

run: build ## start everything on this machine and keep it up: API server, controllers, git server, a box with its agent
	@test/e2e/quickstart run $(RELEASE)

demo: build ## the same story without a person: prints and checks each step, leaves nothing behind
	@test/e2e/quickstart demo $(RELEASE)

test: build ## set everything up and pass all tests: unit, contract, end to end
	@cmake --preset dev > /dev/null
	@cmake --build --preset dev -j $(JOBS)
	@cmake --preset tsan > /dev/null
	@cmake --build --preset tsan --target threads_tests -j $(JOBS)
	@test/cluster/build node
	@test/run $(RELEASE)

campaign: build ## the long tests: every fault against every scenario, on a real node with real Pods too (PARTS='names' for some)
	@cmake --preset dev > /dev/null
	@cmake --build --preset dev --target test_reconcile -j $(JOBS)
	@test/cluster/build node
	@test/campaign $(RELEASE) $(PARTS)

check: ## static checks: layers, purity, checklist, format
	@.ci/check_layers
	@.ci/check_pure
	@.ci/check_checklist
	@.ci/check_format

fmt: ## format all C++ sources
	@git ls-files '*.cpp' '*.hpp' | xargs clang-format -i

lint: deps ## clang-tidy over controller/, findings are errors
	@cmake --preset tidy > /dev/null
	@cmake --build --preset tidy -j $(JOBS)

bench: deps ## measure speed and memory; writes build/bench.json
	@cmake --preset release > /dev/null
	@cmake --build --preset release -j $(JOBS)
	@bench/run

image: build ## the container image, without a registry: build/image/workspace-operator.tar (IMAGE=name:tag); test/cluster/load-image puts it on a test node
	@manifests/image/build $(RELEASE) build/image/workspace-operator.tar --name $(IMAGE)

clean: ## remove what was built (the package cache stays)
	@rm -rf build
