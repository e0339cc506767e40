"""What a run hands out: weights that open anywhere, run nothing but torch and the engine, and tell nothing about us."""

from __future__ import annotations

import json
import os
import pickletools
import re
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from edgekd.atomic import sha256_json
from edgekd.detectors.ultralytics import weights
from edgekd.stages.binding import bind_recipe
from tests.stages.tiny import read

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)
both = pytest.mark.parametrize("name", ["student", "control"])


def pickled(path: Path) -> Iterator[tuple[str, Any]]:
    """(opcode, argument) of the checkpoint's pickle, read without unpickling."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        for opcode, argument, _ in pickletools.genops(archive.read(name)):
            yield opcode.name, argument


def texts(path: Path) -> list[str]:
    return [argument for name, argument in pickled(path) if "UNICODE" in name or "STRING" in name]


def test_they_open_where_edgekd_does_not_exist(whole: Whole, tmp_path: Path) -> None:
    program = """
        import sys
        sys.modules["edgekd"] = None  # every import of it, or of a part of it, fails
        try:
            import edgekd.detectors
        except ImportError:
            pass
        else:
            raise SystemExit("it can be imported")
        import numpy as np
        from ultralytics import YOLO
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        for path in sys.argv[1:]:
            model = YOLO(path)
            found = model.predict(image, imgsz=64, conf=0.001, verbose=False)[0].boxes.conf
            parts = [name for name in sys.modules if name.startswith("edgekd.")]
            print("opened", model.task, len(model.names), model.names[9], float(found.max()), parts)
    """
    paths = [whole.run / name / "student.pt" for name in ("student", "control")]
    environment = {key: value for key, value in os.environ.items() if key != "ULTRALYTICS_SAFE_LOAD"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *paths],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=5) for line in done.stdout.splitlines() if line.startswith("opened ")]
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    for path, (_, task, count, last, best, parts) in zip(paths, lines, strict=True):
        assert (task, count, last, parts) == ("detect", "10", "nine", "[]")
        ours = weights.load(path, "student")(pixels)[0][0, 4:].max()
        assert float(best) == pytest.approx(float(ours), abs=1e-3)


@both
def test_names_nothing_but_torch_and_the_engine(name: str, whole: Whole) -> None:
    path = whole.run / name / "student.pt"
    allowed = torch.serialization.get_safe_globals()  # what earlier tests have read
    torch.serialization.clear_safe_globals()
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    finally:
        torch.serialization.add_safe_globals(allowed)
    assert {one.split(".")[0] for one in unsafe} == {"torch", "ultralytics"}
    named = {argument.replace(" ", ".") for opcode, argument in pickled(path) if opcode == "GLOBAL"}
    harmless = {"collections.OrderedDict", "__builtin__.set"}  # torch reads them from anyone
    assert {one.split(".")[0] for one in named - harmless} == {"torch", "ultralytics"}
    assert not [one for one in named if "distill" in one.lower()]
    assert not {opcode for opcode, _ in pickled(path)} & {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


@both
def test_tells_nothing_about_where_it_was_made(name: str, whole: Whole) -> None:
    from tests.stages.whole_run import SECRETS

    secrets = {
        **SECRETS, "run": str(whole.run), "folder": str(whole.run.parent), "interpreter": sys.prefix,
        "checkout": str(Path(__file__).parents[2]), "us": "edgekd", "data": "train_view",
    }  # fmt: skip
    assert all(len(secret) > 5 for secret in secrets.values()), "shorter ones are in any file by chance"
    files = [whole.run / name / f"student.{end}" for end in ("pt", "safetensors")]
    with zipfile.ZipFile(files[0]) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
        assert not any(member.comment or member.extra.strip(b"FB\0Z") for member in archive.infolist())
    for member, content in [(files[0].name, files[0].read_bytes()), *members]:
        found = [key for key, secret in secrets.items() if secret.encode() in content or secret in member]
        assert found == [], member
    header = files[1].read_bytes()[: 8 + int.from_bytes(files[1].read_bytes()[:8], "little")]
    told = [key for key, secret in secrets.items() if key != "us" and secret.encode() in header]
    assert told == []
    for text in [*texts(files[0]), *re.findall(r'"([^"\\]*)', header.decode(errors="ignore"))]:
        assert not text.startswith(("/", "\\", "~")) and not re.match(r"[A-Za-z]:\\", text), text
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text), text


@both
def test_the_arguments_it_keeps_are_those_of_the_training(name: str, whole: Whole) -> None:
    content = torch.load(whole.run / name / "student.pt", weights_only=False)
    assert set(content) == {"epoch", "model", "ema", "optimizer", "train_args", "version", "license"}
    assert content["train_args"]["epochs"] == 1
    assert content["train_args"]["imgsz"] == 64
    assert not {"data", "save_dir", "project", "model", "cfg", "name"} & set(content["train_args"])
    assert content["ema"] is content["optimizer"] is None


@both
def test_the_twin_has_the_same_weights_and_the_hash_of_the_recipe(name: str, whole: Whole) -> None:
    recipe = bind_recipe(whole.recipe).recipe
    model = torch.load(whole.run / name / "student.pt", weights_only=False)["model"]
    with safe_open(whole.run / name / "student.safetensors", framework="pt") as reader:
        header = json.loads(reader.metadata()["edgekd"])
        twin = {key: reader.get_tensor(key) for key in reader.keys()}  # noqa: SIM118
    assert header["recipe"] == "tiny"
    assert header["recipe_sha256"] == sha256_json(recipe.model_dump(mode="json", by_alias=True))
    assert header["ap"] == round(read(whole.run / name / "metrics.json")["ap"], 4)
    assert header["names"] == list(model.names.values())
    state = model.state_dict()
    assert twin.keys() == state.keys()
    assert [key for key, value in twin.items() if not torch.equal(value, state[key])] == []


def test_student_and_control_differ(whole: Whole) -> None:
    student, control = (
        torch.load(whole.run / name / "student.pt", weights_only=False)["model"].state_dict()
        for name in ("student", "control")
    )
    assert any(not torch.equal(value, control[key]) for key, value in student.items())
