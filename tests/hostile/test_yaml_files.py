"""YAML files of others: what a reader chokes on, grows from, or waits for, in recipes, targets, devices and data."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from edgekd.detectors.class_matching import match_classes
from edgekd.errors import InputError
from edgekd.gate.policy import GateConfig, check_names
from edgekd.recipe.schema import QuantizeRecipe
from edgekd.training.arguments import check_arguments, check_quantization_arguments
from tests.hostile.nasty import NAMES
from tests.hostile.trial import limited, refused

RECIPE = "name: a\ndata: {format: digits, imgsz: 64, train: 24, val: 8, test: 8}\nstudent: {model: yolo11p}\n"


def bomb(levels: int) -> str:
    names = "abcdefghij"[:levels]
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]" for before, one in pairwise(names)]
    return "\n".join(lines) + "\n"


def merge_bomb() -> str:
    lines = ["a: &a {x: 1}"]
    for before, one in zip("abcdefg", "bcdefgh", strict=True):
        lines.append(f"{one}: &{one} {{<<: [{', '.join([f'*{before}'] * 9)}]}}")
    return "\n".join(lines) + "\n"


# Name -> (a document, or lines that are added to one; what the line says).
TEXTS: dict[str, tuple[str, str]] = {
    "whole number that is none": ("x: !!int abc\n", "'abc' is no int; write a value that is one"),
    "number that is none": ("x: !!float abc\n", "'abc' is no float"),
    "truth value that is none": ("x: !!bool maybe\n", "'maybe' is no bool"),
    "impossible date": ("x: !!timestamp 2024-99-99\n", "tag tag:yaml.org,2002:timestamp is not read"),
    "timestamp of text": ("x: !!timestamp abc\n", "tag tag:yaml.org,2002:timestamp is not read"),
    "binary": ("x: !!binary aGk=\n", "tag tag:yaml.org,2002:binary is not read"),
    "set": ("x: !!set {a, b}\n", "tag tag:yaml.org,2002:set is not read"),
    "ordered map": ("x: !!omap [a: 1]\n", "tag tag:yaml.org,2002:omap is not read"),
    "pairs": ("x: !!pairs [a: 1]\n", "tag tag:yaml.org,2002:pairs is not read"),
    "call": ("x: !!python/object/apply:os.system [id]\n", "python/object/apply:os.system is not read"),
    "object": ("x: !!python/object/new:subprocess.Popen [id]\n", "is not read; write text, numbers, lists"),
    "module": ("x: !!python/module:os ''\n", "is not read"),
    "own tag": ("x: !own 3\n", "the tag !own is not read"),
    "include": ("x: !include /etc/passwd\n", "the tag !include is not read"),
    "environment": ("x: !env HOME\n", "the tag !env is not read"),
    "5,000 digits": (f"x: {'9' * 5000}\n", "is no int"),
    "5,000 hexadecimal digits": (f"x: 0x{'f' * 5000}\n", "cannot be worked with; write a finite number"),
    "65 bits": ("x: 99999999999999999999\n", "cannot be worked with"),
    "infinity": ("x: .inf\n", ".inf cannot be worked with"),
    "minus infinity": ("x: -.inf\n", "-.inf cannot be worked with"),
    "not a number": ("x: .nan\n", ".nan cannot be worked with"),
    "infinity by its size": ("x: 1e999\n", "1e999 cannot be worked with"),
    "nested 900 deep": (f"x: {'[' * 900}{']' * 900}\n", "inside each other more than 30 deep"),
    "nested 31 deep": (f"x: {'[' * 31}{']' * 31}\n", "inside each other more than 30 deep"),
    "mappings 5,000 deep": (f"x: {'{a: ' * 5000}{'}' * 5000}\n", "inside each other more than 30 deep"),
    "blocks 400 deep": ("x:\n" + "".join(f"{' ' * n}-\n" for n in range(1, 400)), "inside each other more than"),
    "list that holds itself": ("x: &x [*x]\n", "a list or mapping that holds itself"),
    "mapping that holds itself": ("x: &x {a: *x}\n", "a list or mapping that holds itself"),
    "alias bomb": (bomb(8), "more than 100,000 values, aliases written out"),
    "merge bomb": (merge_bomb(), "more than 100,000 values, aliases written out"),
    "120,000 values": (f"x: [{'1,' * 120_000}]\n", "more than 100,000 values"),
    "two megabytes": (f"x: '{'a' * 2_000_000}'\n", "larger than 1,000,000 bytes"),
    "a value of 20,000 characters": (f"x: {'a' * 20_000}\n", "a value of 20,000 characters; at most 10,000"),
    "key of 20,000 characters": (f"? {'a' * 20_000}\n: 1\n", "a value of 20,000 characters"),
    "key twice": ("x: 1\nx: 2\n", "key 'x' is given twice"),
    "list as key": ("? [1]\n: 1\n", "found unhashable key"),
    "mapping as key": ("? {a: 1}\n: 1\n", "found unhashable key"),
    "merge of text": ("<<: 3\n", "expected a mapping or list of mappings for merging"),
    "unknown alias": ("x: *nowhere\n", "found undefined alias"),
    "NUL": ('x: "a\\0b"\n', "text with a NUL"),
    "NUL as it is": ("x: a\0b\n", "special characters are not allowed"),
    "lone surrogate": ('x: "\\ud800"\n', "half of a surrogate pair"),
    "escape sequence as it is": ("x: \x1b[31m\n", "special characters are not allowed"),
    "tab": ("x:\n\t- a\n", "cannot start any token"),
    "two documents": ("---\na: 1\n", "found another document"),
    "open quote": ("x: 'a\n", "found unexpected end of stream"),
    "open bracket": ("x: [a\n", "not valid YAML (line"),
    "directive": ("%YAML 9.9\n", "not valid YAML (line"),
}  # fmt: skip


def recipe(text: str, folder: Path) -> Path:
    path = folder / "r.yaml"
    path.write_text(RECIPE + text, encoding="utf-8", errors="surrogatepass")
    return path


def target(text: str, folder: Path) -> Path:
    (folder / "t.yaml").write_text(f"steps: [onnx]\nruntime: onnxruntime\nprecision: fp32\n{text}", encoding="utf-8")
    return recipe(f"export: ['{folder / 't.yaml'}']\n", folder)


def device(text: str, folder: Path) -> Path:
    (folder / "d.yaml").write_text(f"transport: local\nruntimes: [onnxruntime]\n{text}", encoding="utf-8")
    return recipe(f"devices: ['{folder / 'd.yaml'}']\n", folder)


def model(text: str, folder: Path) -> Path:
    (folder / "m.yaml").write_text(f"nc: 3\nbackbone: []\nhead: []\n{text}", encoding="utf-8")
    path = folder / "r.yaml"
    path.write_text(RECIPE.replace("yolo11p", f"'{folder / 'm.yaml'}'"))
    return path


PLACES = (recipe, target, device, model)
SECONDS_LONG = "120,000 values"  # to read to their end, which is one and the same for all places


@pytest.mark.parametrize(
    ("place", "name"),
    [
        pytest.param(
            place, name, id=f"{place.__name__}-{name}",
            marks=[pytest.mark.slow] if name == SECONDS_LONG and place is not recipe else [],
        )
        for place in PLACES
        for name in TEXTS
    ],
)  # fmt: skip
def test_what_cannot_be_read(place: Callable[[str, Path], Path], name: str, tmp_path: Path) -> None:
    text, line = TEXTS[name]
    refused(2, line, "check", place(text, tmp_path), "--architecture-only")


VALUES = [name for name, (text, _) in TEXTS.items() if text.startswith("x: ") and "\nx: " not in text]


@pytest.mark.parametrize("name", [name for name in VALUES if name != "two megabytes"])
def test_what_an_override_cannot_be(name: str) -> None:
    value = TEXTS[name][0].removeprefix("x: ")
    refused(2, "the value is not valid YAML", "check", "quickstart", "--set", f"train.epochs={value}")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "must be a mapping of keys, got NoneType"),
        (b"[1]", "must be a mapping of keys, got list"),
        (b"text", "must be a mapping of keys, got str"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (bytes(1000), "special characters are not allowed"),
        (b"\x7fELF" + bytes(range(256)), "is not UTF-8 text"),
        (b"PK\x03\x04", "special characters are not allowed"),
    ],
)  # fmt: skip
def test_what_is_no_recipe(content: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    refused(2, line, "check", tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "key",
    [
        "{k}: 1",
        "train: {{{k}: 1}}",
        pytest.param("gate: {{{k}: 1}}", marks=pytest.mark.slow),
        pytest.param("report: {{{k}: 1}}", marks=pytest.mark.slow),
    ],
)
def test_thirty_thousand_keys(key: str, tmp_path: Path) -> None:
    keys = "\n".join(f"  k{number}: 1" for number in range(30_000))
    text = keys.replace("  ", "") if key.startswith("{") else f"{key.partition(':')[0]}:\n{keys}"
    refused(2, "more; mend these first", "check", recipe(text + "\n", tmp_path), "--architecture-only")


MANY = [f"clas number k{number}" for number in range(30_000)]
CLASSES = [f"class number {number}" for number in range(2000)]
ASKED: dict[str, Callable[[], object]] = {
    "train": lambda: check_arguments(dict.fromkeys(MANY, 1), distilling=True, where="r.yaml"),
    "quantize.train": lambda: check_quantization_arguments(
        {}, QuantizeRecipe(mode="qat", train=dict.fromkeys(MANY, 1)), "r.yaml"
    ),
    "gate.min_ap_per_class": lambda: fail(
        check_names(GateConfig(min_ap_per_class=dict.fromkeys(MANY, 0.1)), [], [], CLASSES, "r.yaml: gate")
    ),
    "gate.max_size_mb": lambda: fail(
        check_names(GateConfig(max_size_mb={f"{name}@x": 1 for name in MANY}), ["onnx"], ["local"], [], "r.yaml: gate")
    ),
    "teacher.classes": lambda: match_classes(CLASSES, CLASSES, dict.fromkeys(MANY, "x"), "r.yaml: teacher.classes"),
}  # fmt: skip


def fail(problems: list[str]) -> None:
    raise InputError(*problems)


@pytest.mark.parametrize("place", ASKED)
def test_a_name_is_guessed_only_for_problems_that_are_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each guess compares with every known name: 30,000 of them took 22 s."""
    guesses = 0

    def counted(*_: object, **__: object) -> list[str]:
        nonlocal guesses
        guesses += 1
        return []

    monkeypatch.setattr("edgekd.errors.difflib.get_close_matches", counted)
    with limited(), pytest.raises(InputError) as caught:
        ASKED[place]()
    assert 1 <= guesses <= 51
    assert len(caught.value.problems) == 51
    assert re.fullmatch(r"and \d\d,950 more; mend these first", caught.value.problems[-1])
    assert InputError(*caught.value.problems).problems == caught.value.problems


@pytest.mark.parametrize("key", ["export", "devices", "distill"])
def test_thirty_thousand_entries(key: str, tmp_path: Path) -> None:
    names = ", ".join(f"k{number}" for number in range(30_000))
    refused(2, f"{key}: tuple should have at most 100 items", "check", recipe(f"{key}: [{names}]\n", tmp_path))


@pytest.mark.parametrize("name", range(len(NAMES)))
def test_nasty_keys_and_values(name: int, tmp_path: Path) -> None:
    """As an unknown key, a name that is missed, a path, a budget, an argument and an override, all at once."""
    text = (
        NAMES[name].replace("\ud800", "").replace("\udcff\udcfe", "").replace("\0", "")[:90]
    )  # quoted, a key may have 1,024 characters
    quoted = '"' + "".join(f"\\U{ord(sign):08x}" for sign in text) + '"'
    lines = [
        f"{quoted}: 1", f"export: [{quoted}]", f"devices: [{quoted}]", f"train: {{{quoted}: {quoted}}}",
        f"gate: {{max_p90_ms: {{{quoted}: 1}}}}", f"teacher: {{weights: {quoted}}}", f"distill: [{quoted}]",
    ]  # fmt: skip
    ended = refused(2, "unknown key", "check", recipe("\n".join(lines) + "\n", tmp_path))
    assert len(ended.err.splitlines()) >= 5
    refused(2, "", "check", "quickstart", "--set", text)
