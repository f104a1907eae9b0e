#!/usr/bin/env bash
# Run `ndframes demo` on real photographs. Needs only Python with pip; arguments go to the command.
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup demo
exec .venv/bin/ndframes demo "$@"
