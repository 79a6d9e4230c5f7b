# Needs Python 3.11 or newer, git and make; everything else is installed into .venv. `make help` lists the targets.

PYTHON ?= python3
UV_VERSION := 0.13.9
ARGS ?=

export UV_PYTHON_DOWNLOADS := never

# The environment is the runtime one until `make test` or `make check` adds the development packages; from then on every
# target uses that one, which contains the other. Stamp files make a second call cost nothing.
BOOTSTRAPPED := .venv/.uv-$(UV_VERSION)
INSTALLED := $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.runtime)

# What can be added to the runtime environment, each with a target and a lock file of its own.
EXTRAS := gguf encoder

UV_PIP = .venv/bin/uv --quiet pip
TARGET = --python .venv/bin/python
COMPILE = $(UV_PIP) compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links $(ARGS)
PYTEST = .venv/bin/pytest -n auto --maxprocesses 4 -rs

# uv does not read pip's configuration. Who has set pip up for an index, and uv for none, gets the same index here.
define use_pip_index
pip_option() { .venv/bin/python -m pip config get "global.$$1" 2>/dev/null | tr '\n' ' ' | sed 's/ *$$//'; }; \
uv_configuration="$${UV_CONFIG_FILE:-$${XDG_CONFIG_HOME:-$$HOME/.config}/uv/uv.toml}"; \
if [ -z "$$UV_DEFAULT_INDEX$$UV_INDEX$$UV_INDEX_URL$$UV_EXTRA_INDEX_URL" ] && [ ! -f "$$uv_configuration" ]; then \
	index="$${PIP_INDEX_URL:-$$(pip_option index-url)}"; \
	extra="$${PIP_EXTRA_INDEX_URL:-$$(pip_option extra-index-url)}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	if [ -n "$$extra" ]; then export UV_EXTRA_INDEX_URL="$$extra"; fi; \
fi; \
certificates="$${PIP_CERT:-$$(pip_option cert)}"; \
if [ -z "$$SSL_CERT_FILE" ] && [ -n "$$certificates" ]; then export SSL_CERT_FILE="$$certificates"; fi
endef

# Every file must have the hash in the lock file, so it does not matter which of several indexes serves it.
define install
@echo "Installing packages ..."
@$(use_pip_index); export UV_INDEX_STRATEGY=unsafe-best-match; \
$(UV_PIP)
endef

.PHONY: help run test check format lock gguf encoder clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s%s\n", $$1, $$2 }'

run: $(INSTALLED) .env ## Start Overread on http://127.0.0.1:8000 (ARGS="--port 8001 --no-samples")
	@.venv/bin/python manage.py up $(ARGS)

test: .venv/.dev ## Run the tests (ARGS="-k upload")
	@$(PYTEST) $(ARGS)

check: .venv/.dev .env ## Lint, formatting, types, missing migrations, settings, API schema, lock files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .
	.venv/bin/python manage.py makemigrations --check --dry-run
	OVERREAD_LOCAL=false OVERREAD_ALLOWED_HOSTS=overread.invalid \
		OVERREAD_SECRET_KEY="$$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
		.venv/bin/python manage.py check --deploy --fail-level ERROR
	.venv/bin/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	@if grep -n '://' requirements*.lock; then echo "Lock files must name no address."; exit 1; fi

format: .venv/.dev ## Format the code and fix what can be fixed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lock: $(BOOTSTRAPPED) ## Resolve the versions in pyproject.toml again (ARGS=--upgrade for newer ones)
	@$(use_pip_index); unset UV_EXTRA_INDEX_URL; \
	$(COMPILE) pyproject.toml --extra local --output-file requirements.lock && \
	for extra in $(EXTRAS); do \
		.venv/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['$$extra'], sep='\n')" | \
			$(COMPILE) - --output-file requirements-$$extra.lock || exit 1; \
	done && \
	$(COMPILE) pyproject.toml --extra local $(EXTRAS:%=--extra %) --extra dev \
		--constraint requirements.lock $(EXTRAS:%=--constraint requirements-%.lock) --output-file requirements-dev.lock

gguf: $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.gguf) ## Add the llama.cpp server for model files of your own

encoder: $(if $(wildcard .venv/.dev),.venv/.dev,.venv/.encoder) ## Add the text encoder that makes vectors on this machine

clean: ## Remove the environment and caches, never the data in var/
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis test-results build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.env:
	@echo 'OVERREAD_LOCAL=true' > .env

$(BOOTSTRAPPED):
	@command -v $(PYTHON) > /dev/null || \
		{ echo "Overread needs Python 3.11 or newer, and there is no $(PYTHON). Name one: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Overread needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Making .venv ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/.runtime: requirements.lock $(BOOTSTRAPPED)
	$(install) sync $(TARGET) --require-hashes requirements.lock \
		$(foreach extra,$(EXTRAS),$(if $(wildcard .venv/.$(extra)),requirements-$(extra).lock))
	@touch $@

.venv/.dev: requirements-dev.lock $(BOOTSTRAPPED)
	$(install) sync $(TARGET) --require-hashes requirements-dev.lock
	@touch $@

$(EXTRAS:%=.venv/.%): .venv/.%: requirements-%.lock .venv/.runtime
	$(install) install $(TARGET) --no-deps --require-hashes --requirement $<
	@touch $@
