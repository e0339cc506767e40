"""`import edgekd`: cheap, complete, and callable where a package has the name of a function."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgekd
from edgekd import api

HEAVY = ("torch", "ultralytics", "numpy", "pydantic", "yaml", "typer", "rich")


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_imports_nothing_heavy() -> None:
    assert python(f"import sys, edgekd; dir(edgekd); print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_functions_are_there_without_torch() -> None:
    program = (
        f"import sys, edgekd; edgekd.run, edgekd.Run, edgekd.load; print([m for m in {HEAVY[:2]} if m in sys.modules])"
    )
    assert python(program) == "[]"


def test_importing_it_takes_a_tenth_of_a_second() -> None:
    """In processor time, the best of five."""
    program = "import time; t = time.process_time(); import edgekd; print(time.process_time() - t)"
    assert min(float(python(program)) for _ in range(5)) < 0.1


def test_every_name_is_there_and_typed() -> None:
    for name in edgekd.__all__:
        assert getattr(edgekd, name) is not None
        assert name in dir(edgekd)
    assert set(api.__all__) | set(edgekd._ERRORS) | {"__version__"} == set(edgekd.__all__)
    assert (Path(edgekd.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        edgekd.distil  # noqa: B018


@pytest.mark.parametrize("name", ["distill", "export", "gate", "report", "search"])
def test_packages_are_called_like_the_functions_of_their_name(name: str, tmp_path: Path) -> None:
    __import__(f"edgekd.{name}")
    assert inspect.ismodule(getattr(edgekd, name))
    with pytest.raises(edgekd.InputError, match=r"no run directory|no such recipe"):
        getattr(edgekd, name)(
            tmp_path / "nothing.yaml", **({"out": tmp_path / "run"} if name in ("distill", "search") else {})
        )


def test_errors_are_those_of_the_command_line() -> None:
    assert issubclass(edgekd.InputError, edgekd.EdgekdError)
    with pytest.raises(edgekd.InputError) as caught:
        edgekd.Recipe(name="a", data={"format": "digits"}, student={"model": "yolo11p"}, trian={"epochs": 3})
    (problem,) = caught.value.problems
    assert problem.startswith("recipe 'a': trian: unknown key 'trian' (known: ")
    assert "did you mean 'train'?" in problem
    assert caught.value.exit_code == 2


def test_what_the_machine_says_is_typed(tmp_path: Path) -> None:
    with pytest.raises(edgekd.InputError, match="File name too long; correct the path"):
        edgekd.load(tmp_path / ("x" * 300))
