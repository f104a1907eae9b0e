#!/usr/bin/env bash
# Every test and every documented example, from a bare machine. Arguments go to pytest: dev/test.sh -m slow
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup tests
exec .venv/bin/python -m pytest "$@"
