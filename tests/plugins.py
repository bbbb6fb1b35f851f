"""An installed package that adds names to the registry: files and entry points on the import path, nothing patched."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest


class Plugins:
    """A package under `folder`, on the import path for the length of a test; `name`: of its distribution."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "plugins") -> None:
        self.folder = folder
        self._about = folder / f"{name}-1.dist-info"
        self._about.mkdir(parents=True)
        (self._about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        monkeypatch.syspath_prepend(str(folder))

    def register(self, group: str, name: str, path: str) -> None:
        """Add the entry point `name = path` to a group such as `suites`."""
        with (self._about / "entry_points.txt").open("a") as file:
            file.write(f"[specbench_s2d.{group}]\n{name} = {path}\n")
        importlib.invalidate_caches()

    def add_suite(
        self,
        name: str,
        categories: list[str],
        questions: bool = True,
        registered_as: str = "",
        metrics: tuple[str, ...] = (),
    ) -> None:
        """A suite with one question of its first category."""
        lines = [f'name = "{name}"', 'title = "T"', "version = 1", 'source = "S"', 'license = "L"']
        lines += [f"categories = {json.dumps(categories)}", *(['questions = "own.jsonl"'] if questions else [])]
        lines += ["[quality]", f"metrics = {json.dumps(metrics)}", 'note = "none"']
        (self.folder / f"{name}.toml").write_text("\n".join(lines), encoding="utf-8")
        question = {"question_id": 1, "category": categories[0], "turns": ["Who?"], "reference": ["Ada"]}
        (self.folder / "own.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
        code = f"from pathlib import Path\nSUITE = Path(__file__).parent / '{name}.toml'\n"
        (self.folder / f"plugin_{name}.py").write_text(code, encoding="utf-8")
        self.register("suites", registered_as or name, f"plugin_{name}:SUITE")
