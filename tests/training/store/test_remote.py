"""A store in an object store: moto's server on this machine stands in for S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from edgekd.errors import EnvironmentFault
from edgekd.training.store.places import place_of
from edgekd.training.store.store import INDEX, Reader, Store
from edgekd.training.views import View

from .test_store import IMAGES, VIEWS, filled, read, record, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of an empty bucket."""
    server = pytest.importorskip("moto.server", reason="needs moto[server], which edgekd[dev] has")
    pytest.importorskip("s3fs", reason="needs s3fs, which edgekd[remote] has")
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        started = server.ThreadedMotoServer(port=0)
        started.start()
        host, port = started.get_host_and_port()
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem().mkdir("knowledge")
        yield "s3://knowledge/store"
        started.stop()


class Records(Dataset[np.ndarray]):  # type: ignore[type-arg]
    """What loader workers do."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[type-arg]
        return read(self.reader, View(0), index)


def test_a_store_in_a_bucket_is_written_read_checked_and_mended(bucket: str, tmp_path: Path) -> None:
    place = place_of(bucket, tmp_path)
    assert Store.at(place) is None
    store = filled(place)
    found = Store.at(place_of(bucket, tmp_path))
    assert found is not None and found.digest == store.digest and found.missing(VIEWS) == []
    reader = Reader(found, [0, 2])
    whole = record(View(1), 17, 40)
    assert np.array_equal(read(reader, View(1), 17), np.concatenate([whole[:12], whole[32:]]))
    assert place.free_bytes() is None and INDEX in place.sizes()

    shard = list(found.shards(VIEWS))[2]
    content = bytearray(place.read(shard.name))
    content[-1] ^= 1
    place.write(shard.name, bytes(content))
    assert [one for one in found.shards(VIEWS) if found.damaged(one)] == [shard]
    with pytest.raises(EnvironmentFault, match=r"s3://knowledge/store: shard open-0/000002.safetensors is damaged"):
        read(Reader(found, [0, 1, 2]), View(0), 8)
    place.write(shard.name, bytes(content[:-4]))
    assert found.missing(VIEWS) == [shard]
    write(found, shard)
    assert found.missing(VIEWS) == [] and found.damaged(shard) is None


def test_workers_connect_for_themselves(bucket: str, tmp_path: Path) -> None:
    store = filled(place_of(f"{bucket}-workers", tmp_path))
    reader = Reader(store, [0, 1, 2])
    read(reader, View(0), 0)  # connected before the fork
    batches = list(DataLoader(Records(reader), batch_size=5, num_workers=2))
    rows = np.concatenate([batch.numpy() for batch in batches])
    assert all(np.array_equal(row, record(View(0), index, 40)) for index, row in enumerate(rows))


def test_a_bucket_that_is_not_there_is_one_line(bucket: str, tmp_path: Path) -> None:
    store = Store.made(place_of("s3://nobody/store", tmp_path), {}, [], 3)
    with pytest.raises(EnvironmentFault, match=r"s3://nobody/store: cannot write \(.*\); see that it is there"):
        store.write_index()
