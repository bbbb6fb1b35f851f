"""A run's folder on disk: one manifest, and records and metered blocks that only ever grow by whole lines.

Lines are appended in one write and fsynced. After a kill the last line may be torn: it is cut off on the next
start, said so, and its cell runs again; nothing else is lost. One process writes to a folder at a time.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from specbench_s2d.errors import RunFolderError, UserError, in_one_line
from specbench_s2d.files import cause, naming, remedy, why_no_file, why_no_folder, write_whole
from specbench_s2d.runs.energy_block import EnergyBlock
from specbench_s2d.runs.identity import changed_identity
from specbench_s2d.runs.json_text import JsonError, parse_object, parse_typed_object, shown
from specbench_s2d.runs.manifest import check_manifest, utc_time
from specbench_s2d.runs.record import CELL, SCHEMA_VERSION, Record, check_schema, is_failed, parse_record

RECORDS = "records.jsonl"
PACKED = ("records.jsonl.xz", "records.jsonl.gz")
"""Records of a finished run, to be kept: read like the others, and not written to. xz takes the least room."""
ENERGY = "energy.jsonl"
MANIFEST = "manifest.json"
EXPORTED = ("records.csv", "records.parquet", "leaderboard.tex", "leaderboard.md", "*-repeat-*.jsonl")
"""What `export` writes into its folder, and a run does not write into its own."""
_LOCK = ".lock"
_READ_BYTES = 2**23
_TAIL_BYTES = 2**16  # a line that was torn is found within, or before as many more
_REPAIR = "mend that, or fetch the file again."


def read_records(folder: Path) -> list[Record]:
    """All records of a run in the order written; of a cell that ran again, the last one, in its first place. Of many,
    `reading.read_columns` takes a tenth of the memory.

    Raises `RunFolderError` for a folder without records, with a line that is no record (a torn last line is left out),
    with a record of another run, or with one key for two cells; `RecordSchemaError` for records of another schema
    version.
    """
    path = records_path(folder)
    same, found = _Same(path, run_id_of(folder)), dict[str, Record]()
    for number, lines in whole_lines(path):
        for line, record in enumerate(parse_lines(lines, path, number), start=number):
            same.check(record, line)
            found[record.key] = record
    return list(found.values())


class _Same:
    """Holds records to one run, by default that of the first, and each key to one cell."""

    def __init__(self, path: Path, run_id: str | None) -> None:
        self._path, self._run_id = path, run_id
        self._cells: dict[str, tuple[int, int]] = {}  # by key the first line, and a hash of the cell

    def check(self, record: Record, line: int) -> None:
        """Raise `RunFolderError` for a record that is not of the run, or not of its key's cell."""
        self._run_id = self._run_id or record.run_id
        if record.run_id != self._run_id:
            raise of_another_run(self._path, line, record.run_id, self._run_id)
        cell = hash(tuple(getattr(record, name) for name in CELL))
        first, known = self._cells.setdefault(record.key, (line, cell))
        if known != cell:
            raise of_another_cell(self._path, line, record.key, first)


def new_run_id(folder: Path) -> str:
    """What a new run is called: as its folder, also where that is given as `.`; as text that any file can hold."""
    name = os.path.basename(os.path.abspath(folder)) or "run"
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def run_id_of(folder: Path) -> str | None:
    """The run that a folder is of; None where it holds no manifest. Raises as `read_manifest` does."""
    return str(read_manifest(folder)["run_id"]) if _is_there(folder / MANIFEST) else None


def _is_there(path: Path) -> bool:
    """Whether a file of a run is there; raises `RunFolderError` for what is no file, such as a pipe, from which nothing
    may ever come."""
    if why := why_no_file(path):
        raise RunFolderError(f"{path}: is {why}; mend that, or give another folder.")
    return path.exists()


def of_another_run(path: Path, line: int, run_id: str, wanted: str) -> RunFolderError:
    """The error of a record that belongs elsewhere."""
    return RunFolderError(
        f"{path}:{line}: a record of run {shown(run_id)} in the folder of run {shown(wanted)}. Take that line out; "
        "`specbench-s2d merge` joins runs."
    )


def of_another_cell(path: Path, line: int, key: str, first: int) -> RunFolderError:
    """The error of a key that stands for two cells."""
    return RunFolderError(
        f"{path}:{line}: its key, {shown(key)}, is that of another cell in line {first}. Take the wrong line out; the "
        "same command runs its cell again."
    )


def records_path(folder: Path) -> Path:
    """The file that holds a run's records; raises `RunFolderError` where there is none."""
    path = next((folder / name for name in (RECORDS, *PACKED) if _is_there(folder / name)), None)
    if path is None:
        where = f"no {RECORDS} there" if folder.is_dir() else _not_there(folder)
        raise RunFolderError(f"{folder}: {where}; give the folder of a run.")
    return path


def _not_there(folder: Path) -> str:
    return "is no folder" if folder.exists() else "is not there"


def parse_lines(lines: bytes, path: Path, number: int) -> Iterator[Record]:
    """The records of whole lines, of which the first is line `number` of the file; raises as `read_records` does."""
    for place, line in enumerate(lines.split(b"\n")[:-1], start=number):
        where = f"{path}:{place}"
        try:
            yield parse_record(parse_typed_object(line, "decoder_options"), where)
        except (JsonError, ValidationError) as error:
            raise RunFolderError(
                f"{where}: not a record ({first_fault(error)}). Take that line out; the same command runs its cell "
                "again."
            ) from error


def read_blocks(folder: Path) -> list[EnergyBlock]:
    """The metered blocks of a run, none where nothing was metered; of a block measured again, the last one.

    Raises `RunFolderError` for a line that is no block; a torn last line is left out.
    """
    path = folder / ENERGY
    found: dict[tuple[str, str, str, int], EnergyBlock] = {}
    for first, lines in whole_lines(path) if _is_there(path) else ():
        for number, line in enumerate(lines.split(b"\n")[:-1], start=first):
            try:
                block = EnergyBlock.model_validate(parse_object(line))
            except (JsonError, ValidationError) as error:
                raise RunFolderError(
                    f"{path}:{number}: not a metered block ({first_fault(error)}). Take that line out; a run with "
                    "--energy-blocks measures its block again."
                ) from error
            found[block.key] = block
    return list(found.values())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run; raises `RunFolderError` when there is none that can be read, or one with a field that no
    run writes so, and `RecordSchemaError` for another schema version."""
    path = folder / MANIFEST
    try:
        _is_there(path)
        manifest = parse_object(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        there = f"holds no {MANIFEST}" if folder.is_dir() else _not_there(folder)
        raise RunFolderError(f"{folder}: {there}; give the folder of a run.") from error
    except OSError as error:
        advice = remedy(error, "give the folder of a run")
        raise RunFolderError(f"{path}: cannot be read ({error.strerror}); {advice}.") from error
    except JsonError as error:
        where = f"{path}:{error.line}" if error.line else str(path)
        raise RunFolderError(f"{where}: no manifest of a run ({error}); {_REPAIR}") from error
    check_schema(manifest.get("schema_version"), str(path))
    try:
        check_manifest(manifest)
    except ValidationError as error:
        raise RunFolderError(f"{path}: no manifest of a run ({first_fault(error)}); {_REPAIR}") from error
    return manifest


def schema_of(folder: Path) -> int:
    """The schema of a run's folder; the newest of one that is yet to be made."""
    return int(read_manifest(folder)["schema_version"]) if (folder / MANIFEST).exists() else SCHEMA_VERSION


class RunStore:
    """The one writer of a run's folder. Use as a context manager: it holds the folder's lock.

    Of its records it keeps where each one lies in the file, and reads what is asked for. `failed`: keys of those that a
    retry runs again. `repaired`: bytes of a torn last record that were cut off when the folder was opened. A torn block
    is cut off too.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.repaired = 0
        self._lock = FileLock(str(folder / _LOCK), timeout=0)
        self._wanted = manifest
        self._places: dict[str, int] = {}  # by key the byte at which the last of its records begins
        self.failed: set[str] = set()

    def __enter__(self) -> RunStore:
        try:
            with _written_by_one(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                self.manifest = self._join()
                self.repaired = _cut_torn_line(self.folder / RECORDS)
                _cut_torn_line(self.folder / ENERGY)
                same = _Same(self.folder / RECORDS, self.manifest["run_id"])
                for line, (at, record) in enumerate(self._placed(), start=1):
                    same.check(record, line)
                    self._take(record, at)
        except UserError:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def last_written(self) -> str:
        """When the last record was written, as `utc_now` gives it."""
        return utc_time((self.folder / RECORDS).stat().st_mtime)

    @property
    def keys(self) -> Set[str]:
        """The cells that have a record."""
        return self._places.keys()

    def get(self, key: str) -> Record | None:
        """The record of a cell, as it is on disk; None where there is none."""
        if key not in self._places:
            return None
        path = self.folder / RECORDS
        with path.open("rb") as file:
            file.seek(self._places[key])
            return next(parse_lines(file.readline(), path, 1))

    def records(self) -> Iterator[Record]:
        """What the folder holds so far, one by one; of a cell that ran again, the last."""
        return (record for at, record in self._placed() if self._places[record.key] == at)

    def append(self, records: Iterable[Record]) -> None:
        """Write records as whole lines, on disk when this returns; raises `RunFolderError` when the disk refuses.

        They take the folder's schema version.
        """
        rows = self.versioned(records)
        for row, at in zip(rows, self._append(RECORDS, rows), strict=True):
            self._take(row, at)

    def versioned(self, records: Iterable[Record]) -> list[Record]:
        """The records, of the folder's schema version."""
        version = self.manifest["schema_version"]
        return [one if one.schema_version == version else one.updated(schema_version=version) for one in records]

    def append_block(self, block: EnergyBlock) -> None:
        """Write a metered block, likewise."""
        self._append(ENERGY, [block])

    def _placed(self) -> Iterator[tuple[int, Record]]:
        """Every record in the file, with the byte at which its line begins."""
        path, at = self.folder / RECORDS, 0
        for number, lines in whole_lines(path) if path.is_file() else ():
            for line, record in zip(lines.split(b"\n"), parse_lines(lines, path, number), strict=False):
                yield at, record
                at += len(line) + 1

    def _take(self, record: Record, at: int) -> None:
        self._places[record.key] = at
        (self.failed.add if is_failed(record) else self.failed.discard)(record.key)

    def _append(self, name: str, rows: Iterable[BaseModel]) -> list[int]:
        """Write rows as whole lines; the byte at which each begins."""
        lines = [(row.model_dump_json() + "\n").encode() for row in rows]
        path = self.folder / name
        try:
            with naming(path), path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    _write_all(file.fileno(), b"".join(lines))
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), before)
                    raise
        except OSError as error:
            raise _refused(path, error, "the lines before are whole", self.folder) from error
        return list(accumulate(map(len, lines[:-1]), initial=before)) if lines else []

    def note(self, **facts: Any) -> None:
        """Put facts into the manifest, in place of those of the same names."""
        self.write_manifest({**self.manifest, **facts})

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest at once; raises `RunFolderError` when the disk refuses."""
        self.manifest = manifest
        try:
            write_manifest_file(self.folder / MANIFEST, manifest)
        except OSError as error:
            raise _refused(self.folder / MANIFEST, error, "every record so far is whole", self.folder) from error

    def _join(self) -> dict[str, Any]:
        """The manifest to work under: this run's own, or the one already there if it is of the same run."""
        found = check_same_run(self.folder, self._wanted)
        if found is None:
            write_manifest_file(self.folder / MANIFEST, self._wanted)
            return self._wanted
        return {name: value for name, value in self._wanted.items() if name not in ("shard", "started")} | found


def _refused(path: Path, error: OSError, whole: str, folder: Path) -> RunFolderError:
    return RunFolderError(
        f"{path}: cannot be written ({error.strerror or error}); {whole}: {remedy(error, 'mend that')}, then go on "
        f"with the same command and --out {folder}."
    )


def check_place(folder: Path) -> None:
    """Raise `RunFolderError` for a folder that cannot be written, that another process writes to, or that holds an
    export; nothing is made there."""
    if why := why_no_folder(folder):
        raise RunFolderError(f"{folder}: {why}; give another --out.")
    with _written_by_one(folder):
        if (folder / _LOCK).exists():
            with FileLock(str(folder / _LOCK), timeout=0):
                pass
        if not (folder / MANIFEST).exists() and (held := _export_in(folder)):
            raise RunFolderError(f"{folder}: holds an export ({held}); give another --out.")


@contextmanager
def _written_by_one(folder: Path) -> Iterator[None]:
    """Raise `RunFolderError` where another process holds the folder's lock, or where it cannot be written."""
    try:
        yield
    except Timeout:
        raise RunFolderError(
            f"{folder}: another process is writing to this run; wait for it, or give another --out."
        ) from None
    except OSError as error:
        advice = remedy(error, "mend that")
        raise RunFolderError(
            f"{folder}: cannot be written ({cause(error)}); {advice}, or give another --out."
        ) from error


def _export_in(folder: Path) -> str | None:
    """A file there that `export` writes and a run does not."""
    found = (path.name for pattern in EXPORTED for path in folder.glob(pattern))
    return next(found, None)


def check_same_run(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest that a folder has already, None where it has none. Raises `RunFolderError` where that is of another
    run than the one `wanted`, or the folder holds records without one, or packed ones."""
    packed = next((folder / name for name in PACKED if (folder / name).exists()), None)
    if packed and not (folder / RECORDS).exists():
        unpack = "unxz" if packed.suffix == ".xz" else "gunzip"
        raise RunFolderError(
            f"{folder}: its records are packed; `{unpack} {packed}` to go on with it, or give another --out."
        )
    for name in (RECORDS, ENERGY, MANIFEST):
        if _is_there(folder / name) and not os.access(folder / name, os.W_OK):
            raise RunFolderError(f"{folder / name}: no permission to write it; get it, or give another --out.")
    if not (folder / MANIFEST).exists():
        if (folder / RECORDS).exists():
            raise RunFolderError(f"{folder}: holds records without a manifest; give another --out.")
        return None
    found = read_manifest(folder)
    changed = changed_identity(wanted, found)
    if wanted.get("shard") != found.get("shard"):
        changed.append(f"the shard ({found.get('shard') or 'all of the grid'} there)")
    if changed:
        raise RunFolderError(
            f"{folder}: holds run {found['run_id']}, which differs in {', '.join(changed)}; "
            "go on with the command that started it, or start anew with another --out."
        )
    return found


def write_manifest_file(path: Path, manifest: dict[str, Any]) -> None:
    """Replace a manifest at once."""
    write_whole(path, json.dumps(manifest, indent=1) + "\n")


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """A file's lines, some megabytes at a time, each time with the number of the first; they end in a newline: the rest
    of the file, if any, was torn by a kill. Raises `RunFolderError` for a file that cannot be read."""
    unpacked: dict[str, Callable[[Path], Any]] = {".xz": lzma.open, ".gz": gzip.open}
    number, rest = 1, b""
    try:
        with unpacked.get(path.suffix, partial(open, mode="rb"))(path) as file:
            while content := file.read(_READ_BYTES):
                lines, newline, rest = (rest + content).rpartition(b"\n")
                if newline:
                    yield number, lines + newline
                    number += lines.count(b"\n") + 1
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        said = f"{getattr(error, 'strerror', None) or error}); {remedy(error, 'fetch it again')}"
        raise RunFolderError(f"{path}: cannot be read ({said}.") from error


def _cut_torn_line(path: Path) -> int:
    """Truncate the file after its last newline; returns how many bytes that took."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        whole = size = file.seek(0, os.SEEK_END)
        while whole:
            start = max(0, whole - _TAIL_BYTES)
            file.seek(start)
            end = file.read(whole - start).rfind(b"\n")
            whole = start if end < 0 else start + end + 1
            if end >= 0:
                break
    if whole < size:
        os.truncate(path, whole)
    return size - whole


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def first_fault(error: Exception) -> str:
    """What is wrong, in one line: of several faults the first, by its field."""
    if not isinstance(error, ValidationError):
        return in_one_line(error, kind=False)
    problem = error.errors(include_url=False)[0]
    place = [".".join(shown(str(part)) for part in problem["loc"])] if problem["loc"] else []
    return ": ".join([*place, problem["msg"].removeprefix("Value error, ")])


@lru_cache(maxsize=4)
def read_finished_run(run: Path) -> tuple[Record, ...]:
    """A recorded run, read once; raises `UserError` for a folder without records."""
    records = tuple(read_records(run)) if run.is_dir() else ()
    if not records:
        raise UserError(f"acceptance {run}: no recorded run there; give the folder that `run` wrote, or published:s2d.")
    return records
