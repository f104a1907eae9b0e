# Sourced by the scripts beside it: makes .venv once, and again when pyproject.toml changed. Not run by itself.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
setup() { # setup EXTRA: .venv with ndframes[EXTRA], editable
    local extra=$1 stamp
    stamp="$extra $(cksum < pyproject.toml)"
    if ! grep -qxF "$stamp" .venv/ready 2>/dev/null; then
        [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
        echo "$stamp" >> .venv/ready
    fi
}
