"""`edgekd knowledge`: a store is made, found, completed, mended or refused, by one line each."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from edgekd.detectors.parts import Attention
from edgekd.detectors.spec import Needs
from edgekd.stages import offline
from edgekd.training.store import places
from tests.distill.helpers import pair_of, spec

from .tiny import Ended, edgekd, read, weights, write_recipe

TEACHER = {"model": "yolo11n", "weights": "teacher.safetensors", "knowledge": "disk", "views": 2}
TRAIN = {
    "imgsz": 64, "epochs": 2, "batch": 8, "optimizer": "AdamW", "lr0": 0.0001, "mosaic": 0.0, "amp": False,
    "warmup_epochs": 0.0, "patience": 0,
}  # fmt: skip
SHARDS = 8 * 2  # of 3 images each


def recipe(folder: Path, file: str = "tiny.yaml", **changes: Any) -> Path:
    shortest = {"control": False, "export": [], "devices": [], "gate": {}, "teacher": TEACHER, "train": TRAIN}
    shortest |= changes
    return write_recipe(folder / file, **shortest)


def made(folder: Path, *more: object) -> Ended:
    return edgekd("knowledge", folder / "tiny.yaml", "--out", folder / "run", *more)


def files(store: Path) -> dict[str, int]:
    """Name of each file -> when it was written; none that is half written."""
    found = (path for path in store.rglob("*") if path.suffix != ".tmp" and path.is_file())
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knowledge")
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    recipe(folder)
    ended = made(folder, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["images"] == 24 and ended.json["views"] == ["open-0", "open-1"]
    (size,) = [line for line in ended.err.splitlines() if "images x" in line]
    assert size.startswith("knowledge: 777 kB for 24 images x 2 views (16.2 kB an image) in ") and size.endswith(
        " free"
    )
    return folder


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    shutil.copytree(first, tmp_path / "x", symlinks=True)
    return tmp_path / "x"


def test_a_finished_store_is_shown_and_left_alone(first: Path) -> None:
    store = first / "run" / "knowledge"
    before = files(store)
    assert len(before) == SHARDS + 2  # the index, and which views are wanted
    again = made(first)
    assert again.code == 0 and again.kept == ["data", "teacher", "knowledge"]
    shown = edgekd("knowledge", "show", store, "--verify", "--json")
    assert shown.code == 0 and shown.json["complete"] and files(store) == before
    sizes = {one["method"]: (one["bytes"], one["fp32_bytes"]) for one in shown.json["methods"]}
    maps = 64 * 64 + 128 * 16 + 256 * 4  # of the teacher's neck
    assert sizes == {"logit": (84 * (2 * 10 + 2), 84 * 4 * 11), "cwd": (2 * maps, 4 * maps)}
    (store / "lost+found").mkdir()
    (store / "lost+found" / "open-7").write_text("of somebody else")
    assert edgekd("knowledge", "show", store, "--json").json == {**shown.json, "damaged_shards": {}}
    shutil.rmtree(store / "lost+found")
    text = edgekd("knowledge", "show", store).out
    assert "(complete)" in text and "cwd: 14.3 kB an image, of 28.7 kB in float32, from yolo11n" in text


def test_one_damaged_shard_is_named_and_made_anew_alone(folder: Path) -> None:
    store = folder / "run" / "knowledge"
    path = store / "open-1" / "000003.safetensors"
    sound, before = path.read_bytes(), files(store)
    path.write_bytes(sound[:-5] + bytes([sound[-5] ^ 4]) + sound[-4:])
    os.utime(path, ns=(0, 0))
    shown = edgekd("knowledge", "show", store, "--verify", "--json")
    assert shown.code == 4 and not shown.json["complete"]
    assert shown.json["damaged_shards"] == {"open-1/000003.safetensors": "record 2 by its checksum"}
    read_by_a_training = edgekd("distill", folder / "tiny.yaml", "--out", folder / "run")
    assert read_by_a_training.code == 4
    found = "shard open-1/000003.safetensors is damaged (record 2 by its checksum), found at image 11; "
    assert found in read_by_a_training.err
    mended = made(folder)
    assert mended.code == 0
    assert (
        "knowledge: shard open-1/000003.safetensors is damaged (record 2 by its checksum) and made anew" in mended.err
    )
    after = files(store)
    assert path.read_bytes() == sound
    assert {name for name in after if after[name] != before[name]} == {"open-1/000003.safetensors"}


def test_a_disk_that_fills_ends_in_one_line_and_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = folder / "run" / "knowledge"
    sound = {name: (store / name).read_bytes() for name in files(store)}
    shutil.rmtree(store)
    write, count = places.write_bytes, [0]

    def full(path: Path, content: bytes, remedy: str) -> None:
        count[0] += 1
        if count[0] > 7:  # the index, which views are wanted, and five shards
            from edgekd.atomic import disk_faults

            with disk_faults(path, remedy):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content, remedy)

    monkeypatch.setattr(places, "write_bytes", full)
    ended = made(folder)
    (line,) = [line for line in ended.err.splitlines() if "error" in line]
    assert ended.code == 4
    remedy = "free space, or name another teacher.store"
    assert f"open-0/000005.safetensors: cannot write (No space left on device); {remedy}" in line
    kept = files(store)
    assert len(kept) == 7
    shown = edgekd("knowledge", "show", store, "--json")
    assert (shown.code, shown.json["complete"], len(shown.json["missing_shards"])) == (4, False, 16 - 5)
    assert shown.json["views"] == ["open-0", "open-1"]  # of which there is no shard yet
    monkeypatch.setattr(places, "write_bytes", write)
    assert made(folder).code == 0
    after = files(store)
    assert {name: after[name] for name in kept} == kept
    assert {name: (store / name).read_bytes() for name in after} == sound


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: usage(10**6, 4 * 10**5, 6 * 10**5))
    ended = made(folder, "--set", f"teacher.store={folder / 'other'}")
    assert ended.code == 4
    assert (
        f"{folder / 'other'}: 777 kB of knowledge are still to be written, 600 kB are free; free space, name another "
        "teacher.store, or lower teacher.views or teacher.points"
    ) in ended.err
    assert not (folder / "other").exists()


def test_a_read_only_store_serves_as_long_as_nothing_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = folder / "run" / "knowledge"
    before, touch = files(store), Path.touch

    def read_only(path: Path, *given: Any, **named: Any) -> None:
        if path.is_relative_to(store):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        touch(path, *given, **named)

    monkeypatch.setattr(Path, "touch", read_only)
    command = ("knowledge", folder / "tiny.yaml", "--out", folder / "new", "--set", f"teacher.store={store}")
    assert edgekd(*command).code == 0
    ended = edgekd(*command, "--set", "teacher.views=3", "--set", "train.epochs=3")
    (line,) = [line for line in ended.err.splitlines() if "error" in line]
    assert ended.code == 4 and files(store) == before
    path = store / "views.json"
    assert line == (
        f"edgekd: error: {path}: cannot write (Read-only file system); free space, or name another teacher.store"
    )


def test_two_commands_that_begin_one_store_do_not_mix_their_knowledge(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the folder and the first shard teachers are built: another's index appears then."""
    other, store = folder / "run" / "knowledge", folder / "shared"

    def meanwhile(*_: Any) -> None:
        store.mkdir()
        shutil.copy(other / "knowledge.json", store)

    monkeypatch.setattr("edgekd.stages.knowledge.require_room", meanwhile)
    ended = made(folder, "--set", f"teacher.store={store}", "--set", "teacher.view_seed=5")
    assert ended.code == 2
    assert f"error: {store}: another command has begun a store of other knowledge here meanwhile; name " in ended.err
    assert list(files(store)) == ["knowledge.json"]


def test_a_store_of_something_else_is_refused_saying_what_differs(folder: Path) -> None:
    store = folder / "run" / "knowledge"
    before = files(store)
    own = ("--set", f"teacher.store={store}")
    changed = ("--set", "train.fliplr=0.25", "--set", "teacher.view_seed=3", "--set", "teacher.runtime=openvino")
    ended = edgekd("knowledge", folder / "tiny.yaml", "--out", folder / "new", *own, *changed)
    assert ended.code == 2 and files(store) == before
    for part in (
        "tiny.yaml: teacher.store: ", "holds other knowledge than this recipe needs; it differs in ",
        "augmentation.fliplr (0.5, now 0.25)", "view_seed (0, now 3)", "logit.teacher.runtime (eager, now openvino)",
    ):  # fmt: skip
        assert part in ended.err


def test_another_student_and_seed_read_the_same_store_and_write_nothing(folder: Path) -> None:
    store = folder / "run" / "knowledge"
    before = files(store)
    weights(folder / "student.safetensors", "yolo11n")
    recipe(
        folder, "other.yaml", name="other", seed=7, teacher={**TEACHER, "store": str(store)},
        student={"model": "yolo11n", "weights": "student.safetensors"}, distill=[{"method": "cwd", "tau": 2.0}],
    )  # fmt: skip
    ended = edgekd("distill", folder / "other.yaml", "--out", folder / "new")
    assert ended.code == 0, ended.err
    assert files(store) == before and not (folder / "new" / "knowledge").exists()
    steps = read(folder / "new" / "student" / "first_steps.json")
    assert steps["knowledge"] == f"read from {store}: 2 views (seed 0), 14,336 bytes an image"
    assert read(folder / "new" / "knowledge.json")["store"] == str(store)


def test_methods_that_take_more_and_images_that_cannot_be_shown_again_are_refused_together(first: Path) -> None:
    path = recipe(
        first, "refused.yaml", distill=["crosskd", "gkd", {"method": "logit", "teacher": "ema"}, "cwd"],
        train={**TRAIN, "multi_scale": 0.5},
    )  # fmt: skip
    problems = edgekd("check", path).problems
    end = ", so its knowledge cannot be stored; use another method, or teacher.knowledge: online"
    assert [line.partition(": ")[2] for line in problems] == [
        "train.multi_scale: the size of a batch is drawn for all its images together, so no image can be shown again; "
        "set it to 0, or use teacher.knowledge: online",
        f"distill[0]: crosskd sends the student's features through layers of the teacher{end}",
        f"distill[1]: gkd looks at all train images before each epoch, with the teacher{end}",
        f"distill[2]: logit learns from the student's own average, which every step changes{end}",
    ]


def test_methods_without_anything_of_a_fixed_size_are_refused_before_any_stage(first: Path, tmp_path: Path) -> None:
    path = recipe(first, "sizes.yaml", distill=["mimic", "cwd", "dsig"])
    sizes = "has another size for other images ((0, 4), then (30, 4)), so it cannot be stored"
    problems = [f"{path}: distill: mimic: its knowledge 'boxes' {sizes}; use teacher.knowledge: online"]
    for command in (("check", path), ("distill", path, "--out", tmp_path / "run")):
        ended = edgekd(*command)
        found = [line for line in ended.err.splitlines() if "error" in line]
        assert ended.code == 2 and found[0] == f"edgekd: error: {problems[0]}"
        assert len(found) == 2 and f"{path}: distill: dsig: its knowledge 'boxes' has another size" in found[1]
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_method_that_learns_from_labels_alone_keeps_nothing(first: Path) -> None:
    alone = recipe(first, "labels.yaml", distill=["head_assistant"])
    assert edgekd("check", alone).problems == [
        f"{alone}: teacher.knowledge: there is nothing to store, for head_assistant learns from labels alone; use "
        "teacher.knowledge: online"
    ]
    beside = recipe(first, "beside.yaml", distill=["cwd", {"method": "head_assistant", "width": 8}, "logit"])
    ended = edgekd("distill", beside, "--out", first / "beside")
    assert ended.code == 0, ended.err
    shown = edgekd("knowledge", "show", first / "beside" / "knowledge", "--verify", "--json").json
    assert shown["complete"] and [one["bytes"] > 0 for one in shown["methods"]] == [True, False, True]
    assert "head_assistant" in (first / "beside" / "student" / "terms.csv").read_text()


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"views": 2}, "views: only with 'knowledge: disk'; set it, or leave them out"),
        ({"store": "x", "points": 3}, "store, points: only with 'knowledge: disk'; set it, or leave them out"),
        ({"knowledge": "disk", "views": 0}, "teacher.views"),
    ],
)
def test_keys_of_the_disk_belong_to_it(tmp_path: Path, teacher: dict[str, Any], said: str) -> None:
    path = recipe(tmp_path, teacher={"model": "yolo11n", **teacher})
    ended = edgekd("check", path, "--architecture-only")
    assert ended.code == 2 and any(said in line for line in ended.problems), ended.err


def test_attention_of_a_layer_is_part_of_what_decides() -> None:
    """`dlim` and `qskd` read it; what is written into the store's head is text."""
    looks = [Needs(parts=frozenset({"boxes", Attention("self", layer)})) for layer in (0, 1)]
    assert [offline._needs(one)["parts"] for one in looks] == [
        ["boxes", "self_attention of layer 0"], ["boxes", "self_attention of layer 1"]
    ]  # fmt: skip


def test_which_points_and_branches_are_kept_is_the_student_s_head_s() -> None:
    both = ("one2many", "one2one")
    teacher, plain = spec(branches=both), spec()
    found = [offline._shared_by(pair_of(*sides)) for sides in ((spec(branches=both), teacher), (plain, teacher))]
    facts = {"strides": [8, 16], "point_offset": 0.5, "anchors_per_cell": 1}
    assert found == [{**facts, "branches": list(both)}, {**facts, "branches": ["one2many"]}]
    assert offline._shared_by(pair_of(spec(branches=both), plain)) == found[1]  # there is no other


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    ended = edgekd("knowledge", "show", tmp_path)
    assert ended.code == 2
    assert ended.problems == [
        f"{tmp_path}: no store of knowledge (no knowledge.json); make one with 'edgekd knowledge RECIPE'"
    ]
    assert edgekd("knowledge", "show").problems == ["knowledge show: name the store, a folder or a URL"]
