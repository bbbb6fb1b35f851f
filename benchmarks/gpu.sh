#!/bin/sh
# The whole GPU table on a machine that has python3 with torch and transformers, and this checkout: benchmarks/gpu.py.
# Other packages are taken from python3 where it has them, else installed beside it into .venv-gpu, where there is an
# index to install from. Arguments go to gpu.py; PYTHON names another interpreter.
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

lacking=$(missing "$python")
if [ -n "$lacking" ]; then
    [ -d .venv-gpu ] || "$python" -m venv --system-site-packages .venv-gpu
    # A virtual environment of a virtual environment does not see the first one's packages.
    "$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
        > "$(.venv-gpu/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/beside.pth"
    python=.venv-gpu/bin/python
    lacking=$(missing "$python")
    # shellcheck disable=SC2086
    if [ -n "$lacking" ] && ! "$python" -m pip install --quiet --retries 1 --timeout 10 $lacking; then
        echo "gpu.sh: $lacking cannot be installed; rows that need them will say so." >&2
    fi
fi
PYTHONPATH=. exec "$python" benchmarks/gpu.py "$@"
