"""Compiles the native kernel with the machine's C compiler, once per machine and source, and loads it.

The library is stored in the user's cache folder; its name is a hash of source, compiler and processor, so that machines
that share a home folder do not run each other's code.
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
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from specbench_s2d.display import cut
from specbench_s2d.errors import UserError

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_WIDE = "-mprefer-vector-width=512"  # gcc and clang on x86 alone
_COMPILERS = ("cc", "gcc", "clang")


class NoCompilerError(UserError):
    """There is no C compiler, or it cannot build the kernel."""


Compile = Callable[[Sequence[str], Path], None]
"""(compiler with its arguments, file) writes the library to the file; raises `NoCompilerError` or `OSError`."""


@lru_cache(maxsize=1)
def native_library() -> ctypes.CDLL:
    """The kernel, compiled where the cache does not hold it yet; raises `NoCompilerError`."""
    return load_or_build(compile_kernel)


def load_or_build(compile_to: Compile) -> ctypes.CDLL:
    """The kernel from the cache, or compiled by `compile_to`; raises `NoCompilerError`."""
    compiler = find_compiler()
    path = library_path(compiler)
    try:
        return _found_or_built(compiler, path, compile_to)
    except OSError:  # a cache folder that cannot be written or run from, a full disk: build for this process only
        with tempfile.TemporaryDirectory(prefix="specbench_s2d-") as folder:
            try:
                return _found_or_built(compiler, Path(folder) / path.name, compile_to)
            except OSError as error:
                raise NoCompilerError(
                    f"the native kernel can be built neither in {path.parent} nor in {folder} ({error}); name a folder "
                    "in XDG_CACHE_HOME, or use --engine eager."
                ) from error


def _found_or_built(compiler: Sequence[str], path: Path, compile_to: Compile) -> ctypes.CDLL:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                compile_to(compiler, path)
    return ctypes.CDLL(str(path))


def find_compiler() -> list[str]:
    """`$CC` with its arguments, else the first of cc, gcc and clang; raises `NoCompilerError`."""
    given = shlex.split(os.environ.get("CC", ""))
    names = given[:1] or _COMPILERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        tried = f"CC={' '.join(given)}" if given else ", ".join(_COMPILERS)
        raise NoCompilerError(
            f"no C compiler ({tried}): the native kernel cannot be built; install one (gcc), or use --engine eager."
        )
    return [found, *given[1:]]


def library_path(compiler: Sequence[str], processor: str | None = None) -> Path:
    """The file of the library for this source, compiler, C library and processor (by default this machine's)."""
    words = " ".join([*compiler, *FLAGS, *platform.libc_ver()])
    parts = [SOURCE.read_bytes(), words.encode(), (processor or _processor()).encode()]
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "specbench_s2d" / f"native-{name}.so"


def _processor() -> str:
    """The processor's model and features, which `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    kinds = dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
    return "\n".join([platform.machine(), platform.processor(), *kinds])


def compile_kernel(compiler: Sequence[str], path: Path, source: Path = SOURCE) -> None:
    """Compile the kernel beside `path` and move it there, so that no process loads half a file.

    Raises `NoCompilerError` with the compiler's first line, `OSError` for a folder that cannot be written.
    """
    wide = [_WIDE] if platform.machine() in ("x86_64", "AMD64") else []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / "native.so"
        command = [*compiler, *FLAGS, *wide, str(source), "-o", str(built), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            built.replace(path)
            return
    said = next(iter(done.stderr.splitlines()), f"exit {done.returncode}")
    raise NoCompilerError(f"{compiler[0]} cannot build the native kernel ({cut(said, 200)}); use --engine eager.")
