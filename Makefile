.DEFAULT_GOAL := help
.PHONY: help demo test lint gen bench clean

# The lock file rules: a run fails when it does not match pyproject.toml.
RUN := scripts/uv run --locked

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The tour: agents, events and a trace on a local server
	$(RUN) mesh demo

test: ## Every test: unit, integration, e2e
	$(RUN) pytest

lint: ## Format, style, types, layers, generated code
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
	scripts/gen --check

bench: ## Measure what is worth measuring
	$(RUN) python benchmarks/group_commit.py

gen: ## Generate Python code from the .proto files
	scripts/gen

clean: ## Remove everything that is built or cached
	rm -rf .venv .tools dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
