#!/usr/bin/env bash
# Lint, formatting, types and documentation, from a bare machine.
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup tests
setup docs
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
