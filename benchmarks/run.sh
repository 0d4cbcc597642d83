#!/usr/bin/env bash
# Taskloom beside its peers, in one go: own virtual environment, own temporary folders, no network once installed.
# Arguments go to driver.py: --json FILE, --markdown FILE, --only MEASURE, --quick.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
venv=.venv-bench
stamp="$venv/.installed"
if [ ! -e "$stamp" ] || [ benchmarks/requirements.txt -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --require-hashes -r benchmarks/requirements.txt
    "$venv/bin/python" -m pip install --quiet --no-deps --require-hashes -r requirements/torch.txt \
        || echo "torch's build for CPUs is not to be had here: its loops are left out" >&2
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
    touch "$stamp"
fi
exec "$venv/bin/python" benchmarks/driver.py "$@"
