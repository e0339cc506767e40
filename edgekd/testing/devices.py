"""What every device does, whatever carries the commands there. A transport's tests inherit it and give `device`.

    class TestMine(DeviceContract, AgentContract):
        @pytest.fixture(scope="class")
        def device(self):
            with RemoteDevice(SPEC, MyChannel(SPEC, Timeouts()), Timeouts()) as device:
                yield device

The device runs Linux; for `AgentContract` it has a Python with numpy and ONNX Runtime.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.devices import run_agent
from edgekd.devices.contract import Device
from edgekd.devices.faults import DeviceFault
from edgekd.testing.artifacts import expected_scores, make_images, write_artifact, write_pack

HOSTILE = [
    "a b", "it's", 'say "x"', "$(touch pwned)", "`touch pwned`", "new\nline", "-rf", "a;touch pwned", "*", "größe",
    "~", "back\\slash", "%s%n", "!!", "a&&touch pwned", "${HOME}", "tab\there", "|", ">pwned", "'\\''", " ",
]  # fmt: skip


class DeviceContract:
    """Of a device that files and programs reach."""

    def test_facts(self, device: Device) -> None:
        facts = device.facts()
        assert facts["system"] == "Linux"
        assert facts["free_bytes"] > 0
        assert facts["cores"] >= 1

    def test_a_file_arrives(self, device: Device, tmp_path: Path) -> None:
        content = bytes(range(256)) * 5000
        (tmp_path / "x.bin").write_bytes(content)
        assert device.shell(["cat", device.push(tmp_path / "x.bin")]).out == content

    def test_a_folder_arrives_with_all_names(self, device: Device, tmp_path: Path) -> None:
        source = tmp_path / "the $(touch pwned)\nfolder's"
        names = [*(name for name in HOSTILE if name not in ("~", " ")), "sub/deep/er"]
        for name in names:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(f"content of {name}")
        there = device.push(source)
        said = device.shell(["cat", *(f"{there}/{name}" for name in names)]).out.decode()
        assert said == "".join(f"content of {name}" for name in names)
        assert not Path("pwned").exists()

    @pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\0\xff"])
    def test_bytes_stay_as_they_are(self, device: Device, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x").write_bytes(content)
        there = device.push(tmp_path / "x")
        assert device.shell(["cat", there]).out == content
        device.pull(there, tmp_path / "back" / "x")
        assert (tmp_path / "back" / "x").read_bytes() == content

    def test_other_content_is_another_file(self, device: Device, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("one")
        first = device.push(tmp_path / "x")
        assert device.push(tmp_path / "x") == first
        (tmp_path / "x").write_text("two, which is longer")
        assert device.shell(["cat", device.push(tmp_path / "x")]).text == "two, which is longer"

    def test_a_program_stays_one(self, device: Device, tmp_path: Path) -> None:
        (tmp_path / "tool").write_text("#!/bin/sh\necho ran $1\n")
        (tmp_path / "tool").chmod(0o755)
        assert device.shell([device.push(tmp_path / "tool"), "well"]).text == "ran well"

    def test_nothing_to_push(self, device: Device, tmp_path: Path) -> None:
        with pytest.raises(DeviceFault, match="gone: is not there any more"):
            device.push(tmp_path / "gone")

    def test_arguments_arrive_as_they_are(
        self, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        said = device.shell(["printf", "%s\\0", *HOSTILE])
        assert said.out.decode().split("\0")[:-1] == HOSTILE
        assert not Path("pwned").exists()
        assert not (Path.home() / "pwned").exists()

    def test_codes_and_streams_of_a_program(self, device: Device) -> None:
        said = device.shell(["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert (said.code, said.text, b"err" in said.err) == (3, "out", True)

    def test_a_program_that_is_missing(self, device: Device) -> None:
        with pytest.raises(DeviceFault, match="no-such-program: cannot be started") as caught:
            device.shell(["no-such-program"])
        assert caught.value.kind == "tool_missing"

    @pytest.mark.parametrize(
        ("content", "mode", "reason"),
        [
            (b"#!/bin/sh\n", 0o644, "permission denied; chmod 755 it"),
            (b"#!/no/interpreter\n", 0o755, "not found; install it or correct the path"),
            (
                b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf7\x00" + bytes(99),
                0o755,
                "exec format error: it is no program",
            ),
        ],
    )
    def test_why_a_program_does_not_start(
        self, device: Device, tmp_path: Path, content: bytes, mode: int, reason: str
    ) -> None:
        (tmp_path / "tool").write_bytes(content)
        (tmp_path / "tool").chmod(mode)
        with pytest.raises(DeviceFault, match=f"tool: cannot be started: {reason}") as caught:
            device.shell([device.push(tmp_path / "tool")])
        assert caught.value.kind == "tool_missing"

    def test_a_program_that_takes_too_long(self, device: Device) -> None:
        with pytest.raises(DeviceFault, match="sleep: did not end in 1 s") as caught:
            device.shell(["sleep", "60"], timeout_s=1)
        assert caught.value.kind == "silent"

    def test_pulling_nothing(self, device: Device, tmp_path: Path) -> None:
        with pytest.raises(DeviceFault, match="/no/such file: no such file") as caught:
            device.pull("/no/such file", tmp_path / "x")
        assert caught.value.kind == "incomplete"
        assert not list(tmp_path.iterdir())


class AgentContract:
    """Where the device has a Python."""

    def test_an_artifact_of_any_name_is_measured(
        self, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        artifact = write_artifact(tmp_path / 'it\'s a\n$(touch pwned) "model"')
        found = run_agent.predict(
            device, artifact, write_pack(tmp_path, 3), conf=0.001, iou=0.7, max_det=300, threads=1
        ).detections
        for one, scores in zip(found, expected_scores(make_images(3)), strict=True):
            np.testing.assert_allclose(one.scores, np.sort(scores.ravel())[::-1], atol=1e-6)
        assert not Path("pwned").exists()

    def test_the_agents_own_words(self, device: Device, tmp_path: Path) -> None:
        artifact = write_artifact(tmp_path / "tiny")
        (artifact / "model.onnx").write_bytes(b"x")
        with pytest.raises(DeviceFault, match=r"agent predict: artifact: .*model\.onnx: sha256 is 2d71") as caught:
            run_agent.predict(device, artifact, write_pack(tmp_path), conf=0.001, iou=0.7, max_det=300, threads=1)
        assert caught.value.kind == "agent"

    def test_one_run_after_the_other(self, device: Device) -> None:
        for _ in range(2):
            events: list[dict[str, object]] = []
            device.run(["doctor", "--runtime", "nonesuch"], events.append)
            assert [event["event"] for event in events] == ["doctor", "end"]
