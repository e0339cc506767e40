"""A store: what is written is read, what is damaged is found and named, and what is missing is known."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.distill.packing import Block
from edgekd.errors import EnvironmentFault, InputError
from edgekd.training.store.places import Folder, Place, place_of
from edgekd.training.store.store import INDEX, Part, Reader, Shard, Store
from edgekd.training.store.wanted import want, wanted
from edgekd.training.views import View

IMAGES, VIEWS = 20, (View(0), View(1))
IDENTITY = {"view_seed": 0, "augmentation": {"fliplr": 0.5}}


def part(method: str, width: int, **config: Any) -> Part:
    block = Block.of({"map": torch.zeros(1, width)}, lambda _: None, "fp32", 0)
    return Part({"method": method, "config": config, "teacher": {"model": "large"}}, block)


def record(view: View, index: int, size: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng([view.number, index]).integers(0, 256, size, np.uint8)


def read(reader: Reader, view: View, index: int) -> np.ndarray[Any, Any]:
    target = np.empty(reader.record_bytes, np.uint8)
    reader.read(view, index, target)
    return target


def write(store: Store, shard: Shard) -> None:
    rows = [record(shard.view, index, store.record_bytes) for index in range(shard.first, shard.first + shard.rows)]
    store.write(shard, np.stack(rows))


def filled(place: Place) -> Store:
    store = Store.made(place, IDENTITY, [part("cwd", 3), part("logit", 5), part("ld", 2)], IMAGES)
    store.write_index()
    for shard in store.missing(VIEWS):
        write(store, shard)
    return store


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    text = str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}/store"
    return filled(place_of(text, tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return filled(Folder(tmp_path / "store"))


def path_of(store: Store, shard: Shard) -> Path:
    return Path(store.place.name) / shard.name


def test_records_come_back_in_any_order_and_only_the_wanted_parts(store: Store) -> None:
    found = Store.at(store.place)
    assert found == store and found.missing(VIEWS) == [] and found.rows == 3
    assert [shard.name for shard in found.shards(VIEWS)][:2] == [
        "open-0/000000.safetensors",
        "open-0/000001.safetensors",
    ]
    every, outer = Reader(found, [0, 1, 2]), Reader(found, [2, 0])
    assert (every.record_bytes, outer.record_bytes) == (40, 20)
    for view in VIEWS:
        for index in (19, 0, 7, 2, 3):
            whole = record(view, index, 40)
            assert np.array_equal(read(every, view, index), whole)
            assert np.array_equal(read(outer, view, index), np.concatenate([whole[:12], whole[32:]]))
    assert [(tuple(span), block) for span, block in outer.blocks([2, 0])] == [
        ((12, 20), store.parts[2].block), ((0, 12), store.parts[0].block)
    ]  # fmt: skip


def test_a_copy_in_another_process_opens_files_of_its_own(store: Store) -> None:
    reader = Reader(store, [0, 1, 2])
    first = read(reader, View(0), 4)
    if isinstance(store.place, Folder):
        assert np.array_equal(read(pickle.loads(pickle.dumps(reader)), View(0), 4), first)
    assert np.array_equal(read(reader, View(0), 4), first)


def test_every_flipped_byte_of_a_shard_is_found(folder: Store) -> None:
    shard = next(folder.shards(VIEWS))
    path = path_of(folder, shard)
    sound = path.read_bytes()
    assert folder.damaged(shard) is None
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        damaged = folder.damaged(shard)
        header = 8 + int.from_bytes(sound[:8], "little")
        padding = place < header and sound[place : place + 1] == b" "
        assert damaged is not None or padding, place
    path.write_bytes(sound)
    assert folder.damaged(shard) is None


def test_damage_is_named_when_it_is_read_and_only_there(folder: Store) -> None:
    shard = list(folder.shards(VIEWS))[2]
    path = path_of(folder, shard)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last record's last part
    path.write_bytes(content)
    reader, first = Reader(folder, [0, 1, 2]), Reader(folder, [0, 1])
    last = shard.first + shard.rows - 1
    with pytest.raises(EnvironmentFault) as error:
        read(reader, View(0), last)
    assert error.value.problems == (
        f"{folder.place.name}: shard open-0/000002.safetensors is damaged (record 2 by its checksum), found at image "
        f"{last}; 'edgekd knowledge RECIPE --out RUN' makes this shard anew, and no other",
    )
    assert np.array_equal(read(reader, View(0), last - 1), record(View(0), last - 1, 40))
    assert np.array_equal(read(first, View(0), last), record(View(0), last, 40)[:32])  # another method's part is sound
    assert [one for one in folder.shards(VIEWS) if folder.damaged(one)] == [shard]
    write(folder, shard)
    assert folder.damaged(shard) is None
    assert np.array_equal(read(Reader(folder, [0, 1, 2]), View(0), last), record(View(0), last, 40))


def test_a_torn_shard_is_missing_and_a_reader_says_so(folder: Store) -> None:
    reader, shard = Reader(folder, [0]), list(folder.shards(VIEWS))[1]
    read(reader, View(0), 3)
    os.truncate(path_of(folder, shard), 250)
    assert folder.missing(VIEWS) == [shard]
    with pytest.raises(EnvironmentFault, match=r"shard open-0/000001.safetensors is damaged \(its end is missing\)"):
        read(reader, View(0), 5)  # in a file that is open already
    path_of(folder, shard).unlink()
    anew = Store.at(Folder(Path(folder.place.name)))
    assert anew is not None
    with pytest.raises(EnvironmentFault, match=r"damaged \(it is missing\)"):
        read(Reader(anew, [0]), View(0), 5)


def test_a_shard_of_another_store_or_place_is_found_out(folder: Store) -> None:
    first, second, *_ = folder.shards(VIEWS)
    path_of(folder, second).write_bytes(path_of(folder, first).read_bytes())
    assert folder.damaged(second) == "its header"
    with pytest.raises(EnvironmentFault, match="its header"):
        read(Reader(folder, [0]), View(0), second.first)


def test_more_views_are_missing_and_none_is_lost(folder: Store) -> None:
    missing = folder.missing((*VIEWS, View(0, True)))
    assert {shard.view for shard in missing} == {View(0, True)} and len(missing) == 7


def test_parts_are_found_by_what_they_are(folder: Store) -> None:
    wanted = [dict(folder.parts[place].identity) for place in (2, 0)]
    assert folder.require(IDENTITY, wanted, "r.yaml: teacher.store") == [2, 0]


@pytest.mark.parametrize(
    ("identity", "method", "said"),
    [
        ({**IDENTITY, "view_seed": 1}, {}, "view_seed (0, now 1)"),
        ({**IDENTITY, "augmentation": {"fliplr": 0.0}}, {}, "augmentation.fliplr (0.5, now 0.0)"),
        (IDENTITY, {"teacher": {"model": "other"}}, "logit.teacher.model (large, now other)"),
        (IDENTITY, {"config": {"tau": 2}}, "logit.config.tau (none, now 2)"),
        (IDENTITY, {"method": "dkd"}, "dkd.method (cwd, logit, ld, now dkd)"),
    ],
)
def test_another_store_is_refused_saying_what_differs(
    folder: Store, identity: dict[str, Any], method: dict[str, Any], said: str
) -> None:
    wanted = {**folder.parts[1].identity, **method}
    with pytest.raises(InputError) as error:
        folder.require(identity, [wanted], "r.yaml: teacher.store")
    (line,) = error.value.problems
    assert line.startswith(f"r.yaml: teacher.store: {folder.place.name} holds other knowledge than this recipe needs; ")
    assert said in line and line.endswith("name another store, or make the recipe that of this one")


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    assert Store.at(place) is None
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(InputError, match="is no index of a store, or not as it was written"):
        Store.at(place)
    (tmp_path / INDEX).write_text('{"schema": "edgekd.knowledge/0"}')
    with pytest.raises(InputError, match=r"a store of another version of edgekd \(edgekd.knowledge/0\)"):
        Store.at(Folder(tmp_path))


@pytest.mark.parametrize(
    ("was", "edited"),
    [('"rows": 3', '"rows": 0'), ('"images": 20', '"images": 34'), ("float32", "float17"), ("0.5", "0.25")],
)
def test_an_index_that_was_edited_is_refused(folder: Store, was: str, edited: str) -> None:
    index = Path(folder.place.name) / INDEX
    text = index.read_text()
    assert was in text
    index.write_text(text.replace(was, edited, 1))
    with pytest.raises(InputError, match=r"knowledge.json: is no index of a store, or not as it was written; name ano"):
        Store.at(Folder(index.parent))


def test_which_views_are_wanted_is_known_before_there_is_any_shard_of_them(store: Store) -> None:
    """A store may get more later, and those that are there count without a note."""
    assert wanted(store.place, store.place.sizes()) == {View(0), View(1)}
    want(store.place, [View(0), View(2, closed=True)])
    assert wanted(store.place, store.place.sizes()) == {View(0), View(1), View(2, closed=True)}
    want(store.place, [View(3)])
    want(store.place, [View(3)])
    assert json.loads(store.place.read("views.json")) == {"views": ["closed-2", "open-0", "open-3"]}
    store.place.write("views.json", b'{"views": ["open-x"]}')
    with pytest.raises(InputError, match=r"views.json: is damaged; delete it"):
        wanted(store.place, store.place.sizes())


def test_a_protocol_that_nobody_speaks_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"nowhere://x: cannot be reached .*pip install edgekd\[remote\]"):
        Store.at(place_of("nowhere://x", tmp_path))


def test_shards_hold_about_64_mb_and_a_view_has_some(tmp_path: Path) -> None:
    large = part("cwd", 1 << 20)  # 4 MiB an image
    assert Store.made(Folder(tmp_path), {}, [large], 1000).rows == 16
    assert Store.made(Folder(tmp_path), {}, [part("cwd", 3)], 800).rows == 100
