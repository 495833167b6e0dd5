#!/bin/sh
# Make .venv with everything that Gossamer and its tests need. Needs Python >= 3.11 only; idempotent.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Gossamer needs Python 3.11 or newer; name one: make PYTHON=python3.12 run" >&2
    exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
.venv/bin/uv pip install --quiet --python .venv/bin/python --constraints constraints.txt --editable '.[dev]'
