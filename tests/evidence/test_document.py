"""The file of a machine: whole, of this version, and without what names anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.evidence import document, kept, private
from edgekd.evidence.contract import Setting, kinds, offered
from edgekd.evidence.document import Shown
from edgekd.evidence.page import with_tables
from edgekd.evidence.scale import FULL
from tests.evidence.made import made, shown, written

ROOT = Path(__file__).parents[2]


def problem_of(path: Path) -> str:
    with pytest.raises(InputError) as error:
        document.read(path)
    assert len(error.value.problems) == 1
    return error.value.problems[0]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found = made(shown("onnx-fp32", "linux", "aarch64"))
    assert document.read(written(tmp_path, found)) == found


@pytest.mark.parametrize("edit", [("12.34", "1.234"), ('"ap": 0.5', '"ap": 0.9'), ('"done"', '"failed"')])
def test_edited_figures_are_refused(tmp_path: Path, edit: tuple[str, str]) -> None:
    path = written(tmp_path, made())
    text = path.read_text()
    assert edit[0] in text
    path.write_text(text.replace(*edit))
    assert problem_of(path).startswith(f"{path}: sha256: is not that of what the file holds: it was edited or cut")


def test_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path, made())
    path.write_text(path.read_text().replace("edgekd.evidence/1", "edgekd.evidence/2"))
    assert problem_of(path) == (
        f"{path}: schema_version: got 'edgekd.evidence/2', this edgekd reads edgekd.evidence/1; choose another --out, "
        "and measure again with this version"
    )


@pytest.mark.parametrize("content", ["[]", "{}", "null", "{", "", '{"schema_version": 1}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    assert problem_of(path).startswith(f"{path}: ")


def test_a_file_with_a_right_hash_and_a_wrong_form_is_refused(tmp_path: Path) -> None:
    from edgekd.atomic import sha256_json, write_json

    content = {**made().model_dump(mode="json"), "cores": 3}
    write_json(tmp_path / "a.json", {**content, "sha256": sha256_json(content)})
    assert "cores: Extra inputs are not permitted" in problem_of(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot read /home/anna/models/a.onnx (cut)", "cannot read .../a.onnx (cut)"),
        ('File "/usr/lib/python3/x.py", line 3', 'File ".../x.py", line 3'),
        ("in /root: no", "in ...: no"),
        ("~/secret/place is full", "<home> is full"),
        ("ssh anna@lab.example.org: refused", "ssh <address>: refused"),
        ("192.168.1.7:22 is silent", "<address> is silent"),
        ("host orin-of-anna died", "host <name> died"),
        ("plain / minimum of 3.5 img/s at 640x640, training/fit.py", None),
        ("onnxruntime 1.24.0, CUDA 12.6", None),
    ],
)
def test_nobody_is_named(text: str, left: str | None) -> None:
    assert private.neutral({"reason": [text]}, ("orin-of-anna",)) == {"reason": [text if left is None else left]}
    assert list(private.betrayed(private.neutral([text], ("orin-of-anna",)))) == []
    if left not in (None, "host <name> died"):
        assert list(private.betrayed([text])) == [text]


def test_versions_of_four_numbers_are_no_addresses() -> None:
    content = {"by": {"tensorrt": "10.3.0.26"}, "driver": "580.65.06.1"}
    assert private.neutral(content, ()) == content


def test_keys_name_nobody_either() -> None:
    assert private.neutral({"/home/anna/x.py": 1}, ()) == {".../x.py": 1}


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "evidence").glob("*.json")), ids=lambda path: path.name)
def test_the_files_that_are_kept_are_whole_and_name_nobody(path: Path) -> None:
    found = document.read(path)
    assert found.scale == "full"
    assert list(private.betrayed(json.loads(path.read_text())["entries"])) == []
    assert list(private.betrayed(found.environment)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "evidence").glob("*.json")), ids=lambda path: path.name)
def test_the_files_that_are_kept_call_failed_what_their_figures_speak_against(path: Path) -> None:
    found = document.read(path)
    kind_of = {one.name: kinds()[one.kind] for one in offered(Setting(found.environment, found.device, FULL))}
    for entry in found.entries:
        fault = kind_of[entry.experiment].fault(entry.figures)
        assert fault is None or (entry.status != "done" and fault in (entry.reason or "")), entry.experiment


def test_the_page_is_drawn_from_the_files() -> None:
    page = (ROOT / "docs" / "evidence.md").read_text()
    assert page == with_tables(page, kept.documents(ROOT / "docs" / "evidence")), "python -m edgekd.evidence.page"


def test_a_file_is_drawn_with_what_it_shows(tmp_path: Path) -> None:
    written(tmp_path, made(shown("tensorrt-fp16", "linux", "aarch64", "GPU", by={"tensorrt": "10.3.0.26"})))
    page = with_tables("before\n<!-- drawn from docs/evidence/*.json -->\nold\n<!-- end of what is drawn -->\nafter\n",
                       kept.documents(tmp_path))  # fmt: skip
    assert "old" not in page
    assert page.startswith("before\n") and page.endswith("\nafter\n")
    assert (
        "| target tensorrt-fp16 | linux, aarch64, GPU | edgekd 0.1.0, tensorrt 10.3.0.26 | 2026-11-27 | the same |"
        in page
    )
    assert "| target | done | 12 |  |" in page


def test_what_has_changed_since_is_marked(tmp_path: Path) -> None:
    row = Shown(row="provider onnxruntime CUDAExecutionProvider", where=("linux",), by={"edgekd": "0.1.0"},
                sources={"agent/session.py": "0" * 64})  # fmt: skip
    found = made(row)
    (entry,) = found.entries
    written(tmp_path, made(row, entries=(entry.model_copy(update={"sources": row.sources}),)))
    page = with_tables(
        "<!-- drawn from docs/evidence/*.json --><!-- end of what is drawn -->", kept.documents(tmp_path)
    )
    assert "| provider onnxruntime CUDAExecutionProvider | linux | edgekd 0.1.0 | 2026-11-27 | changed since |" in page
    assert "| target | done, changed since | 12 |  |" in page
