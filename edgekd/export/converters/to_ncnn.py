"""ONNX to ncnn with pnnx, a program of its own that needs neither torch nor onnx here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import Any


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.param` and `model.bin`.

    Args:
        job: `onnx`, `shape` [1, C, H, W], `half` (float16 weights), `input`, `outputs` (names, in order).
    """
    from job import versions  # type: ignore[import-not-found]

    shape = ",".join(str(size) for size in job["shape"])
    files = {key: folder / name for key, name in (("ncnnparam", "model.param"), ("ncnnbin", "model.bin"))}
    spare = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")
    names = {**files, **{key: folder / f"spare.{key}" for key in spare}}
    command = [program(), job["onnx"], f"inputshape=[{shape}]f32", f"fp16={int(job['half'])}", "device=cpu"]
    done = subprocess.run(
        [*command, *(f"{key}={path}" for key, path in names.items())], capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    if done.returncode or not files["ncnnparam"].is_file():
        raise RuntimeError(f"pnnx ended with exit code {done.returncode}")
    for path in (*folder.glob("spare.*"), *folder.glob("*.pnnxsim.onnx")):
        path.unlink()
    text = files["ncnnparam"].read_text(encoding="utf-8")
    lost = unsupported(text, done.stdout + done.stderr)
    if lost:
        raise NotImplementedError(f"ncnn has no layer for {', '.join(lost)}")
    files["ncnnparam"].write_text(renamed(text, job["input"], job["outputs"]), encoding="utf-8")
    return {"tools": versions("pnnx")}


def program() -> str:
    """The program inside the package `pnnx`, which cannot be imported without torch."""
    found = importlib.util.find_spec("pnnx")
    assert found is not None, "no package pnnx in this environment"
    assert found.origin is not None
    return str(Path(found.origin).parent / "pnnx")


def unsupported(text: str, log: str) -> list[str]:
    """Operators that pnnx passed on although ncnn has no such layer: it says so in its log, and exits with 0."""
    kinds = {line.split()[0] for line in text.splitlines()[2:] if line.strip()}
    ignored = set(re.findall(r"^ignore (\S+) \S+ param", log, flags=re.MULTILINE))
    return sorted(kind for kind in kinds if "." in kind or kind in ignored)


def renamed(text: str, model_input: str, outputs: list[str]) -> str:
    """The graph with the names of the ONNX for its ends: pnnx calls them in0, out0, out1."""
    names = {"in0": model_input, **{f"out{index}": name for index, name in enumerate(outputs)}}
    head, lines = text.splitlines()[:2], text.splitlines()[2:]
    return "\n".join([*head, *(" ".join(names.get(word, word) for word in line.split()) for line in lines), ""])


if __name__ == "__main__":
    from job import run

    run(convert)
