"""What a training leaves behind, and that the control and the student see the same things."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.errors import DivergedError, EnvironmentFault, InputError
from edgekd.training.engines.build import make_trainer
from edgekd.training.fit import fit
from tests.training.helpers import TRAIN, methods, plan, teachers

ALL = {"logit": {}, "ld": {}, "cwd": {}, "pkd": {}, "fitnet": {}, "score_l2": {}}


def state(path: Path) -> dict[str, torch.Tensor]:
    from ultralytics.nn.tasks import torch_safe_load

    return torch_safe_load(str(path), safe_only=True)[0]["model"].state_dict()


NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("0", marks=[pytest.mark.gpu, NO_CUDA])])
def test_without_distillers_it_is_the_engines_own_training(device: str, tiny_digits: Path, tmp_path: Path) -> None:
    train = {**TRAIN, "epochs": 2, "deterministic": True, "device": device}
    fit(plan(tiny_digits, "yolo11n", workers=0, **train), {}, tmp_path / "ours", "control")
    torch.set_num_threads(1)
    from ultralytics import YOLO

    model = YOLO("yolo11n.yaml")
    model.train(data=str(tiny_digits), seed=3, save_dir=str(tmp_path / "theirs"), plots=False, workers=0, **train)
    ours, theirs = state(tmp_path / "ours" / "student.pt"), state(tmp_path / "theirs" / "weights" / "best.pt")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def first_sight(data: Path, tmp_path: Path, distillers: Any, holder: Any) -> tuple[str, list[str]]:
    """Hash of the initial student weights, and of the batches of two epochs."""
    trainer = make_trainer(plan(data, distillers=distillers, epochs=2, batch=4), holder, tmp_path)
    weights: list[str] = []
    batches: list[str] = []
    preprocess = trainer.preprocess_batch

    def watched(batch: dict[str, Any]) -> dict[str, Any]:
        digest = hashlib.sha256(batch["img"].numpy().tobytes() + batch["bboxes"].numpy().tobytes())
        batches.append(digest.hexdigest())
        return preprocess(batch)  # type: ignore[no-any-return]

    def start(engine: Any) -> None:
        module = getattr(engine.model, "student_model", engine.model)
        content = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
        weights.append(hashlib.sha256(content).hexdigest())

    trainer.preprocess_batch = watched
    trainer.add_callback("on_train_start", start)
    trainer.train()
    return weights[0], batches


def test_control_and_student_see_the_same_weights_and_batches(tiny_digits: Path, tmp_path: Path) -> None:
    control = first_sight(tiny_digits, tmp_path / "control", (), None)
    student = first_sight(tiny_digits, tmp_path / "student", methods(cwd={}, logit={}), teachers())
    assert control == student
    assert len(set(control[1])) == len(control[1]) == 12


def test_all_six_methods_train_together(tiny_digits: Path, tmp_path: Path) -> None:
    tutors = teachers()
    holder = tutors["teacher"]
    before = {name: value.clone() for name, value in holder.detector.module.state_dict().items()}
    fit(plan(tiny_digits, distillers=methods(**ALL)), tutors, tmp_path, "student")
    report = json.loads((tmp_path / "first_steps.json").read_text())
    terms = {term["term"]: term for term in report["terms"]}
    features = {f"{name}.feature" for name in ("cwd", "pkd", "fitnet", "score_l2")}
    assert set(terms) == {"detection", "logit.class", "ld.box", *features}
    assert all(term["gradient_norm"] > 0 for term in terms.values())
    assert sum(term["share"] for term in terms.values()) == pytest.approx(1)
    holder.assert_frozen()
    for name, value in holder.detector.module.state_dict().items():
        assert torch.equal(value, before[name]), f"the teacher's {name} changed"
    assert not [name for name in state(tmp_path / "student.pt") if "distill" in name or "adapter" in name]
    assert not (tmp_path / "engine").exists()


def learnt(data: Path, folder: Path, student: str, tutor: str, kinds: Any, **train: Any) -> set[str]:
    """Train; the terms that had a gradient at the student. Its weights have moved, and the teacher's have not."""
    given, tutors = plan(data, student, kinds, **train), teachers(tutor)
    student_net, secret = given.student.module, tutors["teacher"].detector.module
    first, before = ({key: value.clone() for key, value in one.state_dict().items()} for one in (student_net, secret))
    fit(given, tutors, folder, "student")
    assert all(torch.equal(value, before[name]) for name, value in secret.state_dict().items())
    trained = state(folder / "student.pt")
    assert trained.keys() == first.keys()
    assert all(torch.isfinite(value).all() for value in trained.values())
    convolutions = [name for name, value in first.items() if value.ndim == 4 and ".dfl." not in name]
    still = [name for name in convolutions if torch.equal(trained[name].float(), first[name].half().float())]
    assert len(still) < 0.05 * len(convolutions)
    terms = json.loads((folder / "first_steps.json").read_text())["terms"]
    return {term["term"] for term in terms if term["gradient_norm"] > 0}


@pytest.mark.parametrize(
    ("student", "tutor"),
    [
        ("yolo26p", "yolo26n"),
        pytest.param("yolo26p", "yolo11n", marks=pytest.mark.slow),
        ("yolo11p", "yolo26n"),
    ],
)
def test_heads_of_one_and_two_branches_mix(student: str, tutor: str, tiny_digits: Path, tmp_path: Path) -> None:
    found = learnt(tiny_digits, tmp_path, student, tutor, methods(logit={}, pkd={}))
    assert found == {"detection", "logit.class", "pkd.feature"}


def test_rtdetr_learns_from_rtdetr_and_yolo_from_it(tiny_digits: Path, tmp_path: Path) -> None:
    """Both sides of one family and of two; the small ones."""
    found = learnt(tiny_digits, tmp_path / "a", "rtdetr-p", "rtdetr-n", methods(pkd={}, dlim={}), batch=4)
    assert found == {"detection", "pkd.feature", "dlim.prediction", "dlim.relation"}
    assert learnt(tiny_digits, tmp_path / "b", "yolo11p", "rtdetr-n", methods(pkd={})) == {"detection", "pkd.feature"}


@pytest.mark.slow
def test_rtdetr_as_student_and_as_teacher(tiny_digits: Path, tmp_path: Path) -> None:
    """The published architecture."""
    pkd = methods(pkd={})
    found = learnt(tiny_digits, tmp_path / "a", "rtdetr-l", "yolo11n", pkd, batch=4, fraction=0.4)
    assert found == {"detection", "pkd.feature"}
    assert learnt(tiny_digits, tmp_path / "b", "yolo11p", "rtdetr-l", methods(pkd={}, cwd={})) == {
        "detection", "pkd.feature", "cwd.feature",
    }  # fmt: skip


@pytest.mark.slow
def test_threads_are_those_of_the_recipe(tiny_digits: Path, tmp_path: Path) -> None:
    """The engine sets one less than there are cores, whenever it chooses a device."""
    seen: list[int] = []
    two = replace(plan(tiny_digits), threads=2)
    trainer = make_trainer(two, {}, tmp_path / "work")
    trainer.add_callback("on_train_batch_start", lambda _: seen.append(torch.get_num_threads()))
    trainer.train()
    assert set(seen) == {2}
    fit(two, {}, tmp_path, "control")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_nothing_is_printed_where_results_go(tiny_digits: Path, tmp_path: Path, capsys: Any) -> None:
    """The engine shows a bar of its own on standard output while it reads images into memory."""
    fit(plan(tiny_digits, cache=True), {}, tmp_path, "control")
    assert capsys.readouterr().out == ""


def changed_terms(monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    from edgekd.distill.head.logit import Logit

    original = Logit.terms
    monkeypatch.setattr(Logit, "terms", lambda *given: {key: change(term) for key, term in original(*given).items()})


def test_a_detached_term_is_an_error(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_terms(monkeypatch, torch.Tensor.detach)
    with pytest.raises(InputError, match=r"distill: term 'logit.class' has no gradient at the student"):
        fit(plan(tiny_digits, distillers=methods(logit={})), teachers(), tmp_path, "student")


def test_a_loss_that_is_not_finite_ends_the_run(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_terms(monkeypatch, lambda term: term * float("nan"))
    with pytest.raises(DivergedError, match="the loss is not finite in epoch 1"):
        fit(plan(tiny_digits, distillers=methods(logit={}), epochs=2), teachers(), tmp_path, "student")


def test_batch_halving_ends_the_run(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA out of memory")

    changed_terms(monkeypatch, exhausted)
    with pytest.raises(EnvironmentFault, match=r"set train\.batch to 4 for control and student"):
        fit(plan(tiny_digits, distillers=methods(logit={})), teachers(), tmp_path, "student")
