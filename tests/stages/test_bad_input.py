"""Bad input ends with exit code 2 and lines that name file, key, value and remedy, before anything is trained."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.stages import train
from tests.stages.tiny import Ended, edgekd, snapshot, weights, write_recipe

NO_TARGETS: dict[str, Any] = {"export": [], "gate": {}}


@dataclass
class Kitchen:
    """A folder of recipes, weights and data, and `run` to try a recipe in it."""

    folder: Path
    data: Path
    out: Path

    def write(self, **changes: Any) -> Path:
        data = {"format": "yolo", "path": str(self.data)}
        return write_recipe(self.folder / "x.yaml", **{"data": data, **NO_TARGETS, **changes})

    def run(self, *options: str, **changes: Any) -> Ended:
        return edgekd("run", self.write(**changes), "--out", self.out, *options)

    def problems(self, *options: str, **changes: Any) -> list[str]:
        """Error lines without the recipe's name; the folder is as it was and no stage of training was done."""
        path = self.write(**changes)
        before = snapshot(self.folder)
        ended = edgekd("run", path, "--out", self.out, *options)
        assert ended.code == 2, ended.err
        assert snapshot(self.folder) == before
        assert not (self.out / "student").exists()
        return [problem.removeprefix(f"{path}: ") for problem in ended.problems]


@pytest.fixture(scope="module")
def pantry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("recipes")
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    weights(folder / "grey.safetensors", "yolo11p", channels=1)
    weights(folder / "yolo26p.safetensors", "yolo26p")
    (folder / "cut.safetensors").write_bytes((folder / "teacher.safetensors").read_bytes()[:100_000])
    (folder / "cut.pt").write_bytes(b"PK\x03\x04" + bytes(400))
    (folder / "empty.pt").touch()
    (folder / "notes.txt").write_text("yolo")
    torch.save({"state_dict": {"a": torch.zeros(3)}}, folder / "foreign.pt")
    save_file({"a": torch.zeros(3)}, folder / "foreign.safetensors")
    return folder


@pytest.fixture
def kitchen(pantry: Path, tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return Kitchen(pantry, tiny_digits, tmp_path / "run")


class TestRecipe:
    def test_everything_that_is_wrong_is_told_at_once(self, kitchen: Kitchen) -> None:
        found = kitchen.problems(
            foo=1, seed="x", teacher="yolo11n", distill=["fdg", {"method": "cwd", "tau": -1}], export=["onnx-fp3"],
            devices=["lokal"], train={"epohcs": 3, "epochs": 0}, gate={"min_app": 0.5}, validate={"conf": 2},
        )  # fmt: skip
        assert [problem.split(": ")[0] for problem in found] == [
            "seed", "teacher", "validate.conf", "foo", "distill[0].method", "distill[1].tau", "export[0].target",
            "devices[0]", "gate.min_app", "train.epohcs", "train.epochs",
        ]  # fmt: skip
        assert "unknown method 'fdg' (known: " in found[4] and found[4].endswith("did you mean 'fgd'?)")
        assert "unknown export target 'onnx-fp3' (known: " in found[6]
        assert "did you mean 'onnx-fp32'?" in found[6]
        assert "unknown device 'lokal' (known: android, " in found[7]
        assert "did you mean 'min_ap'?" in found[8]
        assert "did you mean 'epochs'?" in found[9]
        assert not kitchen.out.exists()

    def test_data_of_an_unknown_layout(self, kitchen: Kitchen) -> None:
        assert kitchen.problems(data={"format": "voc"}) == [
            "data.format: input should be 'digits', 'yolo' or 'coco', got 'voc'"
        ]

    def test_keys_of_a_layout(self, kitchen: Kitchen) -> None:
        found = kitchen.problems(data={"format": "digits", "imgsz": "big", "chanels": 1})
        assert found[0].startswith("data.imgsz: ")
        assert found[1].startswith(
            "data.chanels: unknown key 'chanels' (known: format, imgsz, seed, test, train, unlabelled, val"
        )

    @pytest.mark.parametrize(
        ("train", "text"),
        [
            ({"epochs": "x"}, "train.epochs: got 'x', allowed: a whole number from 1 to 100000"),
            ({"imgsz": 50}, "train.imgsz: got 50, allowed: a whole number from 32 to 8192, a multiple of 32"),
            ({"model": "x"}, "train.model: edgekd sets this itself; use student.model instead"),
            ({"compile": True}, "train.compile: must be off when distilling"),
        ],
    )
    def test_arguments_of_the_engine(self, kitchen: Kitchen, train: dict[str, Any], text: str) -> None:
        assert kitchen.problems(train=train)[0].startswith(text)

    def test_a_target_twice(self, kitchen: Kitchen) -> None:
        assert kitchen.problems(export=["onnx-fp32", "onnx-fp32"]) == [
            "export: given twice: onnx-fp32; remove one, or give it another name"
        ]

    def test_a_target_that_no_device_runs(self, kitchen: Kitchen, tmp_path: Path) -> None:
        (tmp_path / "board.yaml").write_text("transport: local\nruntimes: [openvino]\n")
        found = kitchen.problems(export=["onnx-fp32"], devices=[str(tmp_path / "board.yaml")])
        assert found == [
            "devices: none of board has the runtime onnxruntime of the target onnx-fp32; "
            "add a device that has it, leave the target out, or write 'devices: []', which exports and measures nothing"
        ]
        found = kitchen.problems(export=["tensorrt-fp16"], devices=["local"])
        assert "none of local has the runtime tensorrt of the target tensorrt-fp16; add" in found[0]
        assert "write 'devices: []'" in found[0]

    def test_budgets_for_what_there_is_not(self, kitchen: Kitchen) -> None:
        budgets = {"max_p90_ms": {"onnx-fp16@local": 1.0}, "min_ap_per_class": {"ten": 0.1}}
        found = kitchen.problems(export=["onnx-fp32"], gate=budgets)
        assert found[0] == (
            "gate.max_p90_ms.onnx-fp16@local: unknown target 'onnx-fp16' (known: onnx-fp32; did you mean 'onnx-fp32'?)"
        )
        assert found[1].startswith("gate.min_ap_per_class.ten: unknown class 'ten' (known: ")

    @pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere", "recipes"])
    def test_no_recipe(self, kitchen: Kitchen, name: str) -> None:
        Path("recipes").mkdir()
        ended = edgekd("run", name, "--out", kitchen.out)
        assert ended.code == 2
        assert name in ended.problems[0]
        assert (
            "quickstart" in ended.problems[0]
            or "is a folder; give a name or the path of a YAML file" in ended.problems[0]
        )

    def test_an_override_that_fits_nowhere(self, kitchen: Kitchen) -> None:
        assert kitchen.problems("--set", "distill.7.weight=1") == [
            "--set distill.7.weight=1: no such place in the recipe; list items are numbered from 0"
        ]


def teacher(name: str, model: str | None = "yolo11n") -> dict[str, Any]:
    return {"teacher": {"model": model, "weights": name}}


class TestModels:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"student": {"model": "yolo13n"}}, "student.model: unknown model 'yolo13n' (known: conditional-detr-p, "),
            ({"student": {"model": "yolo11z"}}, "student.model: unknown scale 'z' (known: l, m, n, p, s, x) of yolo11"),
            ({"student": {"model": "mine.yaml"}}, "student.model: mine.yaml: cannot be read ("),
            (
                {"student": {"model": "yolo11p", "head": "one2one"}},
                "student.head: unknown head 'one2one' (known: one2many",
            ),
            (
                {"teacher": {"model": "yolo11n"}},
                "teacher.weights: missing; name a trained file, e.g. best.pt: random weights teach nothing",
            ),
            (
                teacher("none.pt"),
                "teacher.weights: no file none.pt; put the weights there (edgekd downloads none) or correct the path",
            ),
            (
                teacher("notes.txt"),
                "teacher.weights: {here}/notes.txt: unknown suffix '.txt' (allowed: .pt, .safetensors)",
            ),
            (
                teacher("notes.txt", None),
                "teacher.weights: {here}/notes.txt: no family recognises it (asked: ultralytics, rtmdet, torchvision, ",
            ),
            (
                {"student": {"weights": "notes.txt"}},
                "student.weights: {here}/notes.txt: no family recognises it (asked: ultralytics, rtmdet, torchvision, ",
            ),
            (
                teacher("cut.safetensors"),
                "teacher.weights: {here}/cut.safetensors is not a detector written by edgekd, or",
            ),
            (
                teacher("foreign.safetensors"),
                "teacher.weights: {here}/foreign.safetensors is not a detector written by",
            ),
            (teacher("cut.pt"), "teacher.weights: {here}/cut.pt is empty, damaged or no checkpoint of PyTorch ("),
            (teacher("empty.pt"), "teacher.weights: {here}/empty.pt is empty, damaged or no checkpoint of PyTorch ("),
            (
                teacher("foreign.pt"),
                "teacher.weights: {here}/foreign.pt holds no Ultralytics model; give an Ultralytics",
            ),
            (
                teacher("teacher.safetensors", "yolo11s"),
                "teacher.weights: teacher.safetensors holds another model than teacher.model: yolo11s (scale differ); "
                "correct one, or leave teacher.model out",
            ),
            (
                teacher("yolo26p.safetensors", "yolo11p"),
                "teacher.weights: yolo26p.safetensors holds another model than teacher.model: yolo11p (bins differ)",
            ),
            (
                teacher("grey.safetensors", None),
                "teacher: takes 1 input channels, the data has 3; use weights trained on such data",
            ),
            (
                {"student": {"weights": "grey.safetensors"}},
                "student: takes 1 input channels, the data has 3; use weights trained on such data",
            ),
        ],
        ids=str,
    )
    def test_are_refused(self, kitchen: Kitchen, changes: dict[str, Any], text: str) -> None:
        found = kitchen.problems(**changes)
        assert found[0].startswith(text.format(here=kitchen.folder))
        assert len(found) == 1
        assert "\n" not in found[0]

    def test_methods_that_cannot_serve_the_pair_are_told_together(self, kitchen: Kitchen) -> None:
        found = kitchen.problems(student={"model": "yolo26p"}, distill=["ld", {"method": "cwd", "taps": "nowhere"}])
        assert found[0] == (
            "distill[0]: ld needs a box distribution of equal bins on both sides; "
            "student yolo26p has reg_max=1, teacher yolo11n has reg_max=16"
        )
        assert found[1].startswith("distill[1]: cwd: student yolo26p: unknown tap 'nowhere' (known: ")


class TestData:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "data"
        root.mkdir()
        (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [ant]\n")
        return root

    def refused(self, kitchen: Kitchen, root: Path) -> list[str]:
        before = snapshot(root)
        found = kitchen.problems(data={"format": "yolo", "path": str(root / "data.yaml")})
        assert snapshot(root) == before
        assert all(str(root) in line for line in found)
        return found

    def test_that_is_missing(self, kitchen: Kitchen, root: Path) -> None:
        found = self.refused(kitchen, root)
        assert "train" in found[0]
        assert "does not exist" in found[0]
        (root / "data.yaml").unlink()
        assert (
            "cannot be read (No such file or directory); give the path of a data.yaml" in self.refused(kitchen, root)[0]
        )

    def test_that_is_empty(self, kitchen: Kitchen, root: Path) -> None:
        for split in ("train", "val"):
            (root / "images" / split).mkdir(parents=True)
        assert "no images under" in self.refused(kitchen, root)[0]

    def test_that_is_corrupt(self, kitchen: Kitchen, root: Path) -> None:
        for split in ("train", "val"):
            for kind, name, content in (("images", "a.png", "no picture"), ("labels", "a.txt", "0 0.5 0.5 0.1 0.1\n")):
                (root / kind / split).mkdir(parents=True)
                (root / kind / split / name).write_text(content)
        found = self.refused(kitchen, root)
        assert "unreadable image: 1 found, e.g. a.png" in found[0]
        assert "mend the data or set data.on_problem: skip" in found[0]


class TestOut:
    def test_a_file(self, kitchen: Kitchen) -> None:
        kitchen.out.write_text("mine")
        assert kitchen.run().problems == [
            f"--out {kitchen.out}: exists and is no edgekd run; choose an empty or new directory"
        ]
        ended = edgekd("run", kitchen.write(), "--out", kitchen.out / "deep")
        assert (ended.code, ended.problems) == (
            2, [f"--out {kitchen.out / 'deep'}: part of this path is a file; choose another --out"]
        )  # fmt: skip
        assert kitchen.out.read_text() == "mine"

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a file system of the kernel's own is Linux'")
    def test_where_no_folder_can_be(self, kitchen: Kitchen) -> None:
        ended = edgekd("run", kitchen.write(), "--out", "/proc/mine")
        assert (ended.code, ended.problems) == (
            2, ["--out /proc/mine: no folder can be made there; choose another --out"]
        )  # fmt: skip

    def test_knowledge_of_a_recipe_that_stores_none(self, kitchen: Kitchen) -> None:
        recipe = kitchen.write()
        ended = edgekd("knowledge", recipe, "--out", kitchen.out)
        assert (ended.code, kitchen.out.exists()) == (2, False)
        assert ended.problems == [
            f"{recipe}: teacher.knowledge: the teachers are asked in every step, so nothing is stored; write 'disk' "
            "there, or give --set teacher.knowledge=disk"
        ]

    @pytest.mark.parametrize("options", [(), ("--fresh",)])
    def test_a_strangers_folder(self, kitchen: Kitchen, options: tuple[str, ...]) -> None:
        kitchen.out.mkdir()
        (kitchen.out / "cat.jpg").write_text("cat")
        ended = kitchen.run(*options)
        assert ended.code == 2
        assert ended.problems[0].startswith(f"--out {kitchen.out}: ")
        assert snapshot(kitchen.out) == {"cat.jpg": b"cat"}

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
    def test_a_disk_that_cannot_be_written(
        self, kitchen: Kitchen, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        ended = kitchen.run()
        assert ended.code == 4
        assert ended.problems == [
            f"{kitchen.out / 'manifest.json'}: cannot write ({os.strerror(number)}); free space or choose another --out"
        ]

    def test_a_disk_that_fills_up_while_training(self, kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "best.pt")

        monkeypatch.setattr(train, "fit", full)
        ended = kitchen.run(control=False)
        assert ended.code == 4
        assert ended.err.splitlines()[-1] == (
            "edgekd: error: best.pt: No space left on device; free space or choose another --out"
        )

    def test_a_small_disk(self, kitchen: Kitchen, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
        ).returncode:
            pytest.skip("mounting a file system is not allowed here")
        try:
            ended = edgekd("run", kitchen.write(data={"format": "digits", "imgsz": 320}), "--out", disk / "run")
            assert ended.code == 4
            assert ended.problems == [
                f"{disk}/run/data/digits: cannot write (No space left on device); free space or choose another --out"
            ]
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            ended = edgekd("run", kitchen.write(), "--out", disk / "other")
            assert ended.code == 4
            assert "Read-only file system" in ended.problems[0]
        finally:
            subprocess.run(["umount", disk], check=True)
