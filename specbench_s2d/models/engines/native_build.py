"""Compiles the native kernel with the machine's C compiler, once per machine and source, and loads it.

The library lies in the user's cache, under a name made of the source, the compiler and the processor, so that machines
that share a home do not run each other's code.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from specbench_s2d.errors import UserError

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_WIDE = "-mprefer-vector-width=512"  # gcc and clang on x86 alone
_COMPILERS = ("cc", "gcc", "clang")


class NoCompilerError(UserError):
    """There is no C compiler, or it cannot build the kernel."""


@lru_cache(maxsize=2)
def native_library(profile: bool = False) -> ctypes.CDLL:
    """The kernel, compiled where the cache does not hold it yet; raises `NoCompilerError` in one line.

    `profile`: the one that keeps the time of its phases, for benchmarks.
    """
    compiler, flags = find_compiler(), [*FLAGS, *["-DSPECBENCH_PROFILE"] * profile]
    path = library_path(compiler, flags)
    try:
        return _found_or_built(compiler, flags, path)
    except OSError:  # a home that cannot be written or run from, a full disk, half a file: build for this process alone
        with tempfile.TemporaryDirectory(prefix="specbench_s2d-") as folder:
            try:
                return _found_or_built(compiler, flags, Path(folder) / path.name)
            except OSError as error:
                raise NoCompilerError(
                    f"the native kernel can be built neither in {path.parent} nor in {folder} ({error}); name a folder "
                    "in XDG_CACHE_HOME, or use --engine eager."
                ) from error


def _found_or_built(compiler: Sequence[str], flags: Sequence[str], path: Path) -> ctypes.CDLL:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _compile(compiler, flags, path)
    return ctypes.CDLL(str(path))


def find_compiler() -> list[str]:
    """`$CC` with its words, else the first of cc, gcc and clang; raises `NoCompilerError`."""
    given = shlex.split(os.environ.get("CC", ""))
    names = given[:1] or _COMPILERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        tried = f"CC={' '.join(given)}" if given else ", ".join(_COMPILERS)
        raise NoCompilerError(
            f"no C compiler ({tried}): the native kernel cannot be built; install one (gcc), or use --engine eager."
        )
    return [found, *given[1:]]


def library_path(compiler: Sequence[str], flags: Sequence[str] = FLAGS) -> Path:
    """Where the library of this source, compiler, flags, C library and processor lies."""
    words = " ".join([*compiler, *flags, *platform.libc_ver()])
    parts = [SOURCE.read_bytes(), words.encode(), _processor().encode()]
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "specbench_s2d" / f"native-{name}.so"


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    kinds = dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
    return "\n".join([platform.machine(), platform.processor(), *kinds])


def _compile(compiler: Sequence[str], flags: Sequence[str], path: Path) -> None:
    """Build beside the final place and move there, so that nobody loads half a file."""
    wide = [_WIDE] if platform.machine() in ("x86_64", "AMD64") else []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / "native.so"
        command = [*compiler, *flags, *wide, str(SOURCE), "-o", str(built), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            built.replace(path)
            return
    said = next(iter(done.stderr.splitlines()), f"exit {done.returncode}")
    raise NoCompilerError(f"{compiler[0]} cannot build the native kernel ({said[:200]}); use --engine eager.")
