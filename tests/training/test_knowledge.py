"""Knowledge that is read gives the losses, and in float32 the very weights, of knowledge that is computed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.atomic import read_json
from edgekd.detectors import described
from edgekd.distill.config import MAIN, DistillerConfig
from edgekd.distill.contract import distiller_type
from edgekd.distill.packing import Storage
from edgekd.training.distillers import build_distillers
from edgekd.training.engines.samples import TrainSamples
from edgekd.training.fit import fit
from edgekd.training.knowledge import Online, StoredKnowledge
from edgekd.training.plan import FitPlan
from edgekd.training.store.fill import blocks_of, fill
from edgekd.training.store.places import Folder
from edgekd.training.store.store import Part, Reader, Store
from edgekd.training.views import Views

from .helpers import TRAIN, detector, teachers

METHODS = ("logit", "ld", "cwd", "pkd")
MORE = ("score_l2",)  # whose knowledge is a view of a larger tensor: gradients round in another order, losses do not
PREPARED = ("unikd",)  # reads what extractors say, which are trained before
VIEWS = Views(2, 0, 2)


KEYS: dict[str, dict[str, Any]] = {"unikd": {"queries": 12, "width": 32}}


def configs(names: Sequence[str]) -> list[tuple[str, DistillerConfig]]:
    return [(name, distiller_type(name).config_type(**KEYS.get(name, {}))) for name in names]


def prepared(plan: FitPlan, file: Path) -> FitPlan:
    """With extractors that were not trained, the same in every training of a test."""
    tutors = teachers()
    (method,) = build_distillers(configs(PREPARED), plan.student.spec, tutors)
    described.write(method.preparation().module, file, {})
    return replace(plan, prepared={"unikd": file})


def plan_of(data: Path, names: Sequence[str], **changes: Any) -> FitPlan:
    train = {**TRAIN, "epochs": 2, "mosaic": 1.0, "close_mosaic": 0}
    return FitPlan(
        detector("yolo11p"), False, data, train, None, 0, 1, distillers=configs(names), views=VIEWS, **changes
    )


def store_of(plan: FitPlan, folder: Path, storage: Storage, points: int, rows: int = 8) -> Store:
    tutors = {MAIN: teachers()[MAIN].to(torch.device("cpu"))}
    methods = build_distillers(plan.distillers, plan.student.spec, tutors, plan.prepared)
    source = Online(methods, [tutors[MAIN]] * len(methods))
    samples = TrainSamples(plan, folder / "engine")
    blocks = blocks_of(methods, source, torch.full((2, 3, 64, 64), 0.5), 10, storage, points)
    parts = [Part({"method": name}, block) for (name, _), block in zip(plan.distillers, blocks, strict=True)]
    store = replace(Store.made(Folder(folder / "store"), {"storage": storage}, parts, samples.images), rows=rows)
    store.write_index()
    fill(store, store.missing(VIEWS.all()), samples, methods, source)
    return store


def reading(store: Store, parts: Sequence[int] | None = None) -> StoredKnowledge:
    wanted = tuple(range(len(store.parts)) if parts is None else parts)
    return StoredKnowledge(Reader(store, wanted), wanted, VIEWS)


def terms(folder: Path) -> list[tuple[str, float]]:
    with (folder / "terms.csv").open() as stream:
        return [(row["term"], float(row["value"])) for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def online(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on replayed views that asks its teacher in every step."""
    folder = tmp_path_factory.mktemp("online")
    fit(plan_of(tiny_digits, METHODS), teachers(), folder, "online")
    return folder


def test_in_float32_the_training_is_the_same_bit_for_bit(online: Path, tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, METHODS)
    store = store_of(plan, tmp_path, "fp32", 0)
    result = fit(replace(plan, stored=reading(store)), teachers(), tmp_path / "offline", "offline")
    assert terms(tmp_path / "offline") == terms(online)
    one, other = (torch.load(file / "student.pt", weights_only=False) for file in (online, tmp_path / "offline"))
    weights = [content["model"].state_dict() for content in (one, other)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert result.epochs == 2
    assert read_json(tmp_path / "offline" / "first_steps.json")["knowledge"].startswith(
        f"read from {store.place.name}: "
    )
    assert read_json(online / "first_steps.json")["knowledge"] == "computed in every step"


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "within"), [("fp32", 0.0), ("fp16", 2e-3), ("int8", 0.05)])
def test_the_first_losses_are_within_the_rounding_of_the_type(
    tiny_digits: Path, tmp_path: Path, storage: Storage, within: float
) -> None:
    plan = prepared(plan_of(tiny_digits, (*METHODS, *MORE, *PREPARED)), tmp_path / "prepared.safetensors")
    plan = replace(plan, train={**plan.train, "epochs": 1}, validated=False)
    store = store_of(plan, tmp_path, storage, 0)
    fit(replace(plan, stored=reading(store)), teachers(), tmp_path / "offline", "offline")
    fit(plan, teachers(), tmp_path / "online", "online")
    first, found = (dict(terms(tmp_path / name)[: len(plan.distillers) + 2]) for name in ("online", "offline"))
    assert {"unikd.content", "unikd.positional"} < first.keys() and min(first.values()) > 0
    assert found["detection"] == first["detection"]  # the images are the same
    for name, value in first.items():
        assert found[name] == pytest.approx(value, rel=within), name


def test_one_methods_part_serves_alone_and_what_is_stored_is_small(tiny_digits: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_digits, METHODS)
    store = store_of(plan, tmp_path, "fp16", 10, rows=5)
    whole, alone = Reader(store, range(4)), Reader(store, [3])
    assert alone.record_bytes == store.parts[3].block.size_bytes
    span, _ = whole.blocks([3])[0]
    view = VIEWS.all()[1]
    for index in range(24):
        one, all_ = (np.empty(reader.record_bytes, np.uint8) for reader in (alone, whole))
        alone.read(view, index, one)
        whole.read(view, index, all_)
        assert np.array_equal(all_[slice(*span)], one)
    logit, ld = (part.block for part in store.parts[:2])  # 84 points of 10 classes, 4 edges of 16 bins
    assert logit.size_bytes == 10 * (4 + 2 * 10 + 2)
    assert ld.size_bytes == 10 * (4 + 2 * 64 + 2)


def test_a_rank_writes_its_own_shards(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekd import ranks

    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    monkeypatch.setattr(ranks, "wait", lambda: None)
    from edgekd.training.engines.trainer import StudentTrainer

    loaded = StudentTrainer.get_dataloader

    def alone(self: Any, *given: Any) -> Any:
        with monkeypatch.context() as one:
            one.setattr(ranks, "size", lambda: 1)
            return loaded(self, *given)

    monkeypatch.setattr(StudentTrainer, "get_dataloader", alone)
    plan = plan_of(tiny_digits, ("logit",))
    store = store_of(replace(plan, train={**plan.train, "device": "cpu"}), tmp_path, "fp16", 10, rows=10)
    names = [shard.name for shard in store.shards(VIEWS.all())]
    missing = [shard.name for shard in store.missing(VIEWS.all())]
    assert missing == names[::2]
