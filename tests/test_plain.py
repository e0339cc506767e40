"""Text of others: what cannot be printed is shown as an escape, what is plain stays, nothing is a command."""

from __future__ import annotations

import json
import random
import subprocess

import pytest

from edgekd import plain

SIGNS = (
    "\x00\x07\x08\t\n\r\x1b\x7f\x85\x9b\xad\u200b\u200d\u2028\u202e\u2066\ufeff\ufffe\udcff\U000e0001"
    "#:[]@%,`|<>&\\\"'aä漢🐢 "
)


@pytest.mark.parametrize(
    "path", ["runs/x", "my runs/x", "it's", 'say "x"', "$HOME", "`x`", "a\\b", "!!", "a;b", "~/x", "a\nb", ""]
)
def test_word(path: str) -> None:
    """A shell reads it back as what it was."""
    shown = plain.word(path)
    assert subprocess.check_output(["sh", "-c", f"printf %s {shown}"], text=True) == path
    assert shown == {"runs/x": "runs/x", "my runs/x": '"my runs/x"', "it's": '"it\'s"'}.get(path, shown)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("traffic light", "traffic light"),
        ("Fußgänger 漢字 🐢", "Fußgänger 漢字 🐢"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b2J", "\\x9b2J"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("lone \ud800 \udcff", "lone \\ud800 \\udcff"),
        ("\0", "\\x00"),
        ("::error::x", "\\x3a:error::x"),
        ("  ::add-mask::x", "  \\x3a:add-mask::x"),
        ("std::vector", "std::vector"),
        ("a ##[error]x", "a \\x23#[error]x"),
        ("##vso[task.setvariable]x", "\\x23#vso[task.setvariable]x"),
        ("## heading", "## heading"),
    ],
)
def test_line(given: str, shown: str) -> None:
    assert plain.line(given) == shown


def test_a_line_that_went_through_once_stays_as_it_is() -> None:
    chance = random.Random(0)
    for _ in range(2000):
        given = "".join(chance.choices(SIGNS, k=chance.randrange(80)))
        shown = plain.line(given, 60)
        assert plain.line(shown, 60) == shown
        assert shown.isprintable()
        assert len(shown) <= 60
        assert not shown.lstrip().startswith("::")
        assert "##[" not in shown


def test_long_texts_keep_their_beginning_and_their_end() -> None:
    shown = plain.line("a" * 10_000_000 + "; correct it")
    assert len(shown) == plain.LINE_LIMIT
    assert shown.startswith("aaa")
    assert " ... [10,000,012 characters] ... a" in shown
    assert shown.endswith("; correct it")


def test_values_are_short_however_large_they_are() -> None:
    bomb: object = "lol"
    for _ in range(60):  # 2 to the 60th strings, if it were written out
        bomb = [bomb, bomb]
    assert plain.value(bomb) == "[[[[...], [...]], [[...], [...]]], [[[...], [...]], [[...], [...]]]]"
    assert len(plain.value({"a" * 10**6: list(range(10**6))})) <= 2 * plain.NAME_LIMIT
    assert plain.value(0.5) == "0.5"
    assert plain.value("a\nb") == "'a\\nb'"


def test_lists_of_names() -> None:
    assert plain.listed([]) == "none"
    assert plain.listed(["b", "a\n"]) == "b, a\\n"
    assert plain.listed(str(number) for number in range(30_000)).endswith("48, 49 and 29,950 more")


def test_json_is_safe_to_print_and_reads_back() -> None:
    chance = random.Random(1)
    for _ in range(500):
        given = {"".join(chance.choices(SIGNS, k=9)): ["".join(chance.choices(SIGNS, k=30)), 1.5, None, True]}
        text = plain.json_text(given)
        assert json.loads(text) == given
        assert "##[" not in text
        for line in text.split("\n"):
            assert line.isprintable()
            assert not line.lstrip().startswith("::")
        text.encode("utf-8")


def test_json_without_a_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        plain.json_text({"ap": float("nan")})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("onnx-fp32@local", "onnx-fp32@local"),
        ("<img src=x onerror=alert(1)>", r"&lt;img src=x onerror=alert\(1\)&gt;"),
        ("[a](javascript:x)", r"\[a\]\(javascript:x\)"),
        ("![a](http://x.y/z.png)", r"\!\[a\]\(http:&#8203;//x.y/z.png\)"),
        ("see https://evil.example", "see https:&#8203;//evil.example"),
        ("www.evil.example", "www&#8203;.evil.example"),
        ("mail a@b.example", "mail a@&#8203;b.example"),
        ("ask @someone, #12, GH-3", r"ask @&#8203;someone, \#&#8203;12, GH-&#8203;3"),
        ("a|b\n| --- |", r"a\|b \| --- \|"),
        ("`code` ```", r"\`code\` \`\`\`"),
        ("\x1b[31m", r"\\x1b\[31m"),
        ("$x$ ~a~ *b* _c_", r"\$x\$ \~a\~ \*b\* \_c\_"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_markdown(given: str, shown: str) -> None:
    assert plain.markdown(given) == shown


def test_annotations() -> None:
    assert plain.annotation("100 %\n::error::x, a: b") == "100 %25\\n::error::x, a: b"
    assert plain.annotation("a, b: c%", is_property=True) == "a%2C b%3A c%25"


def test_html_keeps_lines_and_markup() -> None:
    from markupsafe import Markup

    assert plain.for_html("a\n\tb\x1b\u202e") == "a\n\tb\\x1b\\u202e"
    assert plain.for_html(Markup("<b>\u202e</b>")) == "<b>\u202e</b>"
    assert plain.for_html(3) == 3
