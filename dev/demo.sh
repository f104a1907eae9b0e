#!/usr/bin/env bash
# The main job on real photographs, from a bare machine.
set -euo pipefail
source "$(dirname "$0")/_setup.sh"
setup demo
exec .venv/bin/ndframes demo "$@"
