#!/usr/bin/env bash
# Run lint, formatting, types and the HTML documentation. Needs only Python with pip.
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup tests
setup docs
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
