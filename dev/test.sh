#!/usr/bin/env bash
# Run every test and every documented example, from a bare machine. Arguments go to pytest: dev/test.sh -m slow
#
# One pytest-xdist worker per core. Of two options -n the last one counts, so -n 4 or -n 0 (no workers, for pdb) on the command
# line takes precedence. With worksteal a worker gets neighbouring tests, which share the fixtures of their module.
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup tests
exec .venv/bin/python -m pytest -n auto --dist worksteal "$@"
