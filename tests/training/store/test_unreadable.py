"""A store that its disk or its server does not give is one line, wherever that is found out."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from edgekd.errors import EnvironmentFault
from edgekd.training.engines import replay
from edgekd.training.store.places import Folder, Remote, place_of
from edgekd.training.store.store import Reader, Store
from edgekd.training.views import View, coded
from tests.stages.tiny import edgekd

from .test_store import IMAGES, filled, read


class ClientError(Exception):
    """As botocore's: no `OSError`."""


class Broken:
    """A client that answers nothing."""

    def __getattr__(self, _: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            raise ClientError("no such host")

        return call


@pytest.mark.parametrize("doing", ["read", "write", "sizes"])
def test_whatever_a_client_raises_is_one_line(monkeypatch: pytest.MonkeyPatch, doing: str) -> None:
    monkeypatch.setattr(Remote, "_system", lambda _: (Broken(), "bucket/store"))
    calls = {"read": ("x",), "write": ("x", b"y"), "sizes": ()}
    with pytest.raises(EnvironmentFault) as error:
        getattr(Remote("s3://bucket/store"), doing)(*calls[doing])
    done = "write" if doing == "write" else "read"
    assert error.value.problems == (
        f"s3://bucket/store: cannot {done} (no such host); see that it is there and may be used",
    )


@pytest.mark.slow
@pytest.mark.parametrize("credentials", [True, False])
def test_no_server_and_no_credentials(monkeypatch: pytest.MonkeyPatch, credentials: bool) -> None:
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs, which edgekd[remote] has")
    s3fs.S3FileSystem.clear_instance_cache()
    nowhere = {"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in {**nowhere, "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any") if credentials else monkeypatch.delenv(name, raising=False)
    ended = edgekd("knowledge", "show", "s3://x/y")
    why = "Could not connect to the endpoint URL: .*" if credentials else "Unable to locate credentials"
    (problem,) = ended.problems
    assert ended.code == 4
    assert re.fullmatch(rf"s3://x/y: cannot read \({why}\); see that it is there and may be used", problem)


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on a disk that gives headers, and no records."""
    store = filled(Folder(tmp_path / "store"))

    def preadv(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    return store


def said(store: Store) -> str:
    return (
        f"{store.place.name}/open-0/000000.safetensors: cannot be read (Input/output error); see that the disk or "
        "mount is there and may be read, then give the same command again"
    )


def test_a_disk_that_fails_is_named_with_the_file(failing: Store) -> None:
    with pytest.raises(EnvironmentFault) as error:
        read(Reader(failing, [0]), View(0), 1)
    assert error.value.problems == (said(failing),)


def test_nothing_that_can_be_listed_or_opened_is_a_bug_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(Folder(tmp_path))

    def stale(*_: Any, **__: Any) -> int:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "open", stale)
    with pytest.raises(EnvironmentFault, match=r"knowledge.json: cannot be read \(Stale file handle\); see that"):
        Store.at(place_of(str(tmp_path), Path()))


class Images(Dataset[dict[str, torch.Tensor]]):
    """What the engine's data set is to a loader."""

    def __init__(self, reader: Reader) -> None:
        self.__getitems__ = replay._Samples(self, 0, reader)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"index": torch.tensor(index)}


def test_workers_hand_it_on(failing: Store) -> None:
    """Raised there it would be torch's own `OSError` without a number."""
    batches = [[coded(View(0), index, IMAGES) for index in indices] for indices in ((0, 1), (1, 2))]
    collate: Any = replay._Collated(default_collate)
    loader = DataLoader(Images(Reader(failing, [0])), batch_sampler=batches, num_workers=2, collate_fn=collate)
    for found in loader:
        assert isinstance(found, replay.Failed)
        with pytest.raises(EnvironmentFault) as error:
            found.raised()
        assert error.value.problems == (said(failing),)
