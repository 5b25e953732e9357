# The commands of the project. `make test` is what CI runs; `make demo` shows the main job on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Modules are compiled once, not anew by each of the many processes that the tests start.
export PYTHONDONTWRITEBYTECODE :=
READY := $(VENV)/.ready

.PHONY: demo test quick check guarantees chaos bench setup clean interpreters clients

demo: setup
	@rm -rf .demo && $(BIN)/tracekeeper demo --directory .demo

setup: $(READY)

$(READY): pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) sh scripts/setup $(VENV)
	@touch $(READY)

# Everything that CI runs: style, types, layers, the unit tests on each Python found, older versions of the clients, and
# every test in its short form.
test: check
	sh scripts/interpreters $(VENV)
	PYTHON=$(PYTHON) sh scripts/clients $(VENV) generation
	$(BIN)/python -m pytest -n 3 --dist worksteal --timeout 300 -p no:cacheprovider

# Under a minute: the unit tests.
quick: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal tests/unit -m "not slow" -q --timeout 60

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The guarantees at their stated counts; takes as long as it takes.
guarantees: setup
	TRACEKEEPER_COUNTS=full $(BIN)/python -m pytest tests/guarantees tests/failures -n 2 --timeout 3600 -v

# Ten minutes of killing, stopping and starving apps and workers; CHAOS_SECONDS=60 CHAOS_SEED=7 make chaos for another run.
chaos: setup
	$(BIN)/python -m tests.chaos

# Clients and frameworks in environments of their own: those that do not fit into this one, and older versions.
clients: setup
	PYTHON=$(PYTHON) sh scripts/clients $(VENV)

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(VENV)-3.* $(VENV)-clients-* .demo dist build
