"""The program trtexec in three versions: takes the flags that each takes, and prints the lines that each prints."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_ALWAYS = (
    "help", "onnx", "saveEngine", "skipInference", "noTF32", "memPoolSize", "builderOptimizationLevel",
    "versionCompatible", "timingCacheFile", "noBuilderCache", "minShapes", "optShapes", "maxShapes", "useDLACore",
    "allowGPUFallback",
)  # fmt: skip
FLAGS = {
    "8.6.1": (*_ALWAYS, "fp16", "int8"),
    "10.3.0": (*_ALWAYS, "fp16", "int8", "stronglyTyped"),
    "11.4.0": (*_ALWAYS, "stronglyTyped"),
}
_NUMBERS = {"8.6.1": "v8601", "10.3.0": "v100300", "11.4.0": "v110400"}

_PROGRAM = """#!{python}
import json, os, sys

given = dict((word[2:].split("=", 1) + [""])[:2] for word in sys.argv[1:])
title = "TensorRT.trtexec [TensorRT {number}] # " + " ".join(sys.argv)
print("&&&& RUNNING " + title)
unknown = [name for name in given if name not in {flags}]
if "help" in given:
    print("&&&& PASSED " + title)
    sys.exit(0)
if unknown:
    print("[11/21/2026-10:00:00] [E] Unknown option: --" + unknown[0])
    print("&&&& FAILED " + title)
    sys.exit(1)
with open({log!r}, "w") as stream:
    json.dump(given, stream)
with open(given["onnx"], "rb") as stream:
    onnx = stream.read()
if {behaviour!r} == "fails":
    print("[11/21/2026-10:00:00] [E] [TRT] ModelImporter.cpp:949: ERROR: no importer for op: Bernoulli")
    print("[11/21/2026-10:00:00] [E] Engine could not be created from network")
    print("&&&& FAILED " + title)
    sys.exit(1)
if {behaviour!r} == "lies":
    print("&&&& PASSED " + title)
    sys.exit(0)
core = given.get("useDLACore")
if core is not None:
    print("[11/21/2026-10:00:00] [I] [TRT] ---------- Layers Running on DLA ----------")
    print("[11/21/2026-10:00:00] [I] [TRT] [DlaLayer] {{ForeignNode[pooled...two]}}")
print("[11/21/2026-10:00:00] [I] [TRT] ---------- Layers Running on GPU ----------")
print("[11/21/2026-10:00:00] [I] [TRT] [GpuLayer] SHUFFLE: by_class")
header = {{
    "version": {full!r}, "dla_core": None if core is None else int(core), "profiles": [],
    "flags": ["VERSION_COMPATIBLE"] if "versionCompatible" in given else [],
}}
if "minShapes" in given:
    name = given["minShapes"].split(":")[0]
    texts = [given[key].split(":")[1] for key in ("minShapes", "optShapes", "maxShapes")]
    shapes = [[int(edge) for edge in text.split("x")] for text in texts]
    header["profiles"] = [{{name: shapes}}]
with open(given["saveEngine"], "wb") as stream:
    stream.write(json.dumps(header).encode() + b"\\n" + onnx)
if "timingCacheFile" in given:
    with open(given["timingCacheFile"], "ab") as stream:
        stream.write(b"measured;")
print("&&&& PASSED " + title)
"""


def install(folder: Path, version: str, full: str, behaviour: str = "builds") -> Path:
    """Write the program and put it on PATH's head; returns the file that its flags are logged to.

    Args:
        version: one of `FLAGS`.
        full: version of the library that the engine is for.
        behaviour: `builds`, `fails`, or `lies`: says that it passed, and writes nothing.
    """
    folder.mkdir()
    log = folder / "flags.json"
    program = folder / "trtexec"
    number, flags = _NUMBERS[version], FLAGS[version]
    text = _PROGRAM.format(
        python=sys.executable, number=number, flags=flags, log=str(log), full=full, behaviour=behaviour
    )
    program.write_text(text)
    program.chmod(0o755)
    return log


def on_path(folder: Path) -> str:
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def given(log: Path) -> dict[str, str]:
    flags: dict[str, str] = json.loads(log.read_text())
    return flags
