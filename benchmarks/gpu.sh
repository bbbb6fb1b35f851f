#!/bin/sh
# The whole GPU table on a machine that has python3 with torch (2.11 or later) and transformers, and this checkout:
# benchmarks/gpu.py, to which arguments go. No network is needed: what python3 lacks is installed from wheels into
# .venv-gpu, beside what python3 has. They lie in a folder `wheels` in the checkout or beside it, or where
# SPECBENCH_WHEELS says; to fill it, elsewhere, for the same Python and platform:
#     pip download --dest wheels pydantic psutil safetensors filelock tokenizers jinja2 numpy pytest pytest-timeout nvidia-ml-py
# What is not found there is asked of the package index, once, and else named; rows that need it say so.
# PYTHON names another interpreter. A PYTHONPATH that is given stays, behind the checkout.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

missing() {
    "$1" - <<'PY'
from importlib.util import find_spec

modules = {"pydantic": "pydantic", "safetensors": "safetensors", "filelock": "filelock", "psutil": "psutil",
           "numpy": "numpy", "tokenizers": "tokenizers", "jinja2": "jinja2", "pytest": "pytest",
           "pytest_timeout": "pytest-timeout", "pynvml": "nvidia-ml-py"}
print(" ".join(package for module, package in modules.items() if find_spec(module) is None))
PY
}

folder_of_packages() {
    "$1" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'
}

make_environment() {
    # Without ensurepip, as on a bare Debian, it takes python3's own pip.
    [ -x .venv-gpu/bin/python ] || "$python" -m venv --system-site-packages .venv-gpu 2>/dev/null ||
        "$python" -m venv --system-site-packages --without-pip --clear .venv-gpu || return 1
    # An environment of an environment does not see the first one's packages: here is where it finds them.
    PYTHONPATH='' "$python" - > "$(folder_of_packages .venv-gpu/bin/python)/beside.pth" <<'PY'
import subprocess, sys

bare = [sys.executable, "-S", "-c", "import sys; [print(path) for path in sys.path]"]
without = subprocess.check_output(bare, text=True).splitlines()
print(*(path for path in sys.path if path not in without), sep="\n")
PY
}

install() {
    if .venv-gpu/bin/python -m pip --version >/dev/null 2>&1; then
        .venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check "$@"
    else
        "$python" -m pip --python .venv-gpu/bin/python install --quiet --disable-pip-version-check "$@"
    fi
}

wheels=${SPECBENCH_WHEELS:-}
for folder in wheels ../wheels; do
    if [ -z "$wheels" ] && [ -d "$folder" ]; then wheels=$folder; fi
done

lacking=$(missing "$python")
if [ -n "$lacking" ] && make_environment; then
    python=.venv-gpu/bin/python
    lacking=$(missing "$python")
    if [ -n "$lacking" ] && [ -n "$wheels" ]; then
        echo "gpu.sh: from $wheels: $lacking" >&2
        for package in $lacking; do # one by one: what is not there keeps nothing else away
            install --no-index --find-links "$wheels" "$package" || true
        done
        lacking=$(missing "$python")
    fi
    if [ -n "$lacking" ]; then
        # shellcheck disable=SC2086
        install --retries 0 --timeout 10 $lacking >/dev/null 2>&1 || true
        lacking=$(missing "$python")
    fi
fi
if [ -n "$lacking" ]; then
    echo "gpu.sh: not here and not to be had: $lacking. Rows that need them will say so." >&2
fi
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "$python" benchmarks/gpu.py "$@"
