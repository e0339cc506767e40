"""Run directories for tests: held by a recipe called a, and a stage that counts how often it was done."""

from __future__ import annotations

from pathlib import Path

from edgekd.run_dir import RunDir


def held(path: Path, name: str = "a", *, fresh: bool = False, locked: str = "name: a\n"):
    return RunDir.held(path, name, path.parent, locked, fresh=fresh)


class Work:
    """An action that counts how often it was done, and writes what it is told to."""

    def __init__(self, run: RunDir, *names: str) -> None:
        self.run, self.names, self.times = run, names, 0

    def __call__(self) -> list[str]:
        self.times += 1
        for name in self.names:
            path = self.run.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {self.times}")
        return list(self.names)
