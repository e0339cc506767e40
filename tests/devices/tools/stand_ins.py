"""Stand-ins for timing programs: shell scripts that print what the golden files say, and note how they were called.

None of them times anything. The golden files are written by hand after the programs' formats (golden/README.md).
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from edgekd.atomic import sha256_file, write_json
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice
from edgekd.measure.latency import Protocol
from tests.devices.tools.golden import FOLDER

RULES = Protocol("quick", 2, warmup_seconds=0.5, min_count=4, min_seconds=0.01, needs_steady=False)


def local(runtime: str, tool: dict[str, Any], **more: Any) -> LocalDevice:
    return LocalDevice(DeviceSpec(name="box", runtimes=(runtime,), tools={runtime: tool}, **more))


_TRTEXEC = """
[ "$1" != --help ] || {{ echo '&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # --help'; exit 0; }}
for word; do
  case $word in
    --saveEngine=*)
      printf 'an engine' >"${{word#*=}}"
      echo '&&&& PASSED TensorRT.trtexec [TensorRT v{number}]'
      exit 1 ;;
    --loadEngine=*) [ "$(cat "${{word#*=}}")" = 'an engine' ] || {{ cat {failed}; exit 0; }} ;;
    --exportTimes=*) cat {times} >"${{word#*=}}" ;;
  esac
done
cat {said}
"""
_PERF_TEST = """
[ "$1" != -h ] || exit 1
for word; do result=$word; done
cat {rows} >>"$result"
cat {said}
"""
_BENCHMARK_MODEL = """
[ "$1" != --help ] || exit 1
cat {said}
"""
_BENCHNCNN = "cat {said} >&2\n"


def program(path: Path, text: str, **files: Any) -> Path:
    """A script that first appends its arguments to `<path>.calls`; `files` are golden ones, by the name in `text`."""
    paths = {name: shlex.quote(str(FOLDER / file)) for name, file in files.items()}
    numbers = {"number": paths.pop("number").strip("'").rpartition("/")[2]} if "number" in paths else {}
    calls = shlex.quote(f"{path}.calls")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n' + text.format(**paths, **numbers))
    path.chmod(0o755)
    return path


def trtexec(path: Path, said: str = "trtexec-10.3.txt", number: str = "100300") -> Path:
    times = "trtexec-times-10.3.json" if number == "100300" else "trtexec-times-8.0.json"
    return program(path, _TRTEXEC, said=said, times=times, failed="trtexec-failed.txt", number=number)


def perf_test(path: Path) -> Path:
    return program(path, _PERF_TEST, rows="onnxruntime_perf_test.csv", said="onnxruntime_perf_test.txt")


def benchmark_model(path: Path, said: str = "benchmark_model-cpu.txt") -> Path:
    return program(path, _BENCHMARK_MODEL, said=said)


def benchncnn(path: Path) -> Path:
    return program(path, _BENCHNCNN, said="benchncnn.txt")


def calls(path: Path) -> list[str]:
    """The arguments of each call so far."""
    noted = path.with_name(path.name + ".calls")
    return noted.read_text().splitlines() if noted.is_file() else []


def write_artifact(folder: Path, runtime: str, model: str, **more: Any) -> Path:
    """A folder with a file of the right name, which no stand-in reads, and its sidecar."""
    folder.mkdir(parents=True)
    (folder / model).write_bytes(b"a model")
    write_json(folder / "edgekd.json", {
        "schema_version": "edgekd.artifact/1", "target": folder.name, "runtime": runtime, "precision": "fp32",
        "files": {model: sha256_file(folder / model)}, "class_names": ["one"], "input_name": "images",
        "input_shape": [1, 3, 64, 96], "size_px": [64, 96], "decode": "dense", "build": {}, **more,
    })  # fmt: skip
    return folder


def running(name: str, *arguments: str) -> list[str]:
    """Processes of a name with one of these arguments, after at most 5 s."""
    deadline = time.monotonic() + 100
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[0] == name.encode() and words[1].decode() in arguments:
                    found.append(entry.name)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
