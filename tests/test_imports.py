"""The house rule: a room imports only from rooms below it, and the agent from nowhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgekd

ROOT = Path(edgekd.__file__).parent
ROOMS = [
    "testing", "__main__",
    "cli", "", "api", "evidence", "search", "pipeline", "stages", "report", "training", "distill", "export", "gate",
    "detectors", "data", "devices", "measure", "recipe", "run_dir", "former_runs", "agent",
]  # fmt: skip
CELLAR = {  # may import each other
    "types", "errors", "atomic", "progress", "pace", "forecast", "ranks", "plain", "terminal", "files", "plugins",
    "interrupts", "openmp", "cores", "blame",
}  # fmt: skip
MODULES = sorted(path for path in ROOT.rglob("*.py") if "builtin" not in path.relative_to(ROOT).parts)
ON_DEVICES = {"tensorrt", "ncnn", "ai_edge_litert"}  # runtimes that need not be on the machine that edgekd is on
AGENT = [path for path in MODULES if path.relative_to(ROOT).parts[0] == "agent"]


def name_of(path: Path) -> str:
    parts = ("edgekd", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import, those inside functions included."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module == "edgekd":
                yield from ((node.lineno, f"edgekd.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def test_every_room_is_on_the_list() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES} - {"", "__main__"}
    assert rooms <= set(ROOMS) | CELLAR, "a new room needs a place in the order"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downwards_only(path: Path) -> None:
    own = room_of(name_of(path))
    height = {room: len(ROOMS) - place for place, room in enumerate(ROOMS)}
    upward = [
        f"{path.relative_to(ROOT.parent)}:{line} imports {module}"
        for line, module in imports_of(path)
        if module.startswith("edgekd.")
        and (other := room_of(module)) not in (own, "__version__")
        and height.get(other, 0) >= height.get(own, 0)
        and not {own, other} <= CELLAR
    ]
    assert upward == []


@pytest.mark.parametrize("path", AGENT, ids=name_of)
def test_the_agent_stands_alone(path: Path) -> None:
    runtimes = {"onnxruntime", "openvino", "tensorrt", "ncnn", "ai_edge_litert"}
    allowed = {"numpy", "cv2", *runtimes, *sys.stdlib_module_names}
    foreign = [
        module
        for _, module in imports_of(path)
        if not module.startswith("edgekd.agent") and module.split(".")[0] not in allowed
    ]
    assert foreign == []
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__main__.py"], ids=name_of)
def test_every_module_can_be_imported(path: Path) -> None:
    try:
        importlib.import_module(name_of(path))
    except ModuleNotFoundError as error:
        if error.name not in ON_DEVICES:
            raise


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_no_room_is_too_big() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    rooms = {room_of(name_of(path)) for path in MODULES}
    share = {room: sum(n for path, n in lines.items() if room_of(name_of(path)) == room) for room in rooms}
    assert max(share.values()) < 0.2 * sum(lines.values()), "divide it: a room that is most of a house is none"


LISTS = {  # they import all members of a registry, each of which imports the registry
    "edgekd.export.exporters", "edgekd.evidence.experiments.all", "edgekd.distill.methods",
}  # fmt: skip


def needed_by(path: Path, names: set[str]) -> set[str]:
    """Modules of ours that a module imports, those for annotations alone apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            members = {f"{module}.{alias.name}" for alias in node.names} & names
            found |= members or {module}
    return (found & names) - {"edgekd"}


def test_no_circle_of_files() -> None:
    """Imports inside functions count. Beyond a registry and its members, each file can be read without those above."""
    names = {name_of(path) for path in MODULES}
    left = {name_of(path): needed_by(path, names) for path in MODULES if name_of(path) not in LISTS}
    while free := [name for name, needed in left.items() if not needed & set(left)]:
        for name in free:
            del left[name]
    assert sorted(left) == []


FAMILIES = {path.name for path in (ROOT / "detectors").iterdir() if (path / "family.py").is_file()}
# What names Ultralytics outside its family and the engine, its command or its environment, or looks into its networks,
# and why it may. Files of any kind count, docstrings and messages too.
NAMES_ULTRALYTICS = re.compile(
    r"(?i:ultralytics)|RTDETR|\bYOLO_|\byolo (train|predict|val)\b|\bargs\.yaml|model\[-1\]|\bmodel\.\d|\.dfl\."
    r"|\bset_head_attr|student\.(pt|safetensors)\b"
)
TEXTS = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".yaml", ".txt", ".j2", ".css", "")]
MAY_NAME_IT = {
    "agent/NOTICE": "says whose licence weights may have",
    "api/around.py": "takes over a configuration of `yolo train`",
    "cli/starting.py": "takes over a configuration of `yolo train`",
    "stages/starting/first_recipe.py": "takes over a configuration of `yolo train`",
    "stages/starting/from_yolo.py": "takes over a configuration of `yolo train`",
    "training/distillation.py": "lists what the engine reads of the model that it trains, which this module is",
    "recipe/instead.py": "help for people who come from there",
    "evidence/experiments/exact.py": "compares with the engine alone, and says so in its title",
    "search/coco_ap.yaml": "says where published AP are from",
    "detectors/families.py": "registers the built-in families",
    "detectors/onnx/facts.py": "reads what artifacts say of the output layout that bears this name",
    "agent/postprocess.py": "reads the output layout that bears this name",
    "export/contract.py": "the target's key `layout` has a value of this name",
    "export/graph_ends.py": "folds that layout into the graph",
    "export/outputs.py": "the output layout that bears this name",
    "export/onnx_layout.py": "makes that layout",
    "export/engine_metadata.py": "what an artifact says to Ultralytics, for users who open it there",
    "export/mobile.py": "which artifacts Ultralytics opens as folders",
    "data/letterbox.py": "says whose pixels it gives, with the functions that it follows",
    "distill/neck/score_l2.py": "says where the method comes from",
    "devices/bundle.py": "says whose licence weights may have",
    "run_dir/directory.py": "versions of installed packages, written down for people",
    "testing/distillers.py": "the pair that the suite of methods has by default",
    "cli/habits.py": "help for people who come from there",
}


def room_or_family(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2])


def test_nothing_outside_names_ultralytics() -> None:
    inside = {"detectors/ultralytics", "training/engines"}
    named = {
        path.relative_to(ROOT).as_posix()
        for path in TEXTS
        if path.is_file()
        and not {"builtin", "__pycache__"} & set(path.parts)
        and room_or_family(path) not in inside
        and NAMES_ULTRALYTICS.search(path.read_text(encoding="utf-8"))
    }
    assert named == set(MAY_NAME_IT), "ask the detector or its family instead; or an entry that is not needed any more"


# Predictions are had by `edgekd.detectors.capture.run`; who makes the two halves of a pass itself, and why.
MAKES_PASSES = {
    "detectors/capture.py": "is that way",
    "detectors/ensemble.py": "makes one detector of several, half by half",
    "training/teacher_network.py": "is compiled or traced between the halves",
    "training/teacher.py": "puts together what such a network gave",
    "testing/detectors.py": "tests one half, traced",
}


def test_predictions_are_had_in_one_way() -> None:
    halves = re.compile(r"\.(compute|assemble)\(")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if room_or_family(path) not in {f"detectors/{family}" for family in FAMILIES}
        and halves.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(MAKES_PASSES)


def test_families_are_imported_by_their_registry_alone() -> None:
    """The training engine is that of one family, and may import it."""
    assert "ultralytics" in FAMILIES
    foreign = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in MODULES
        for line, module in imports_of(path)
        for family in FAMILIES
        if module.startswith(f"edgekd.detectors.{family}")
        and room_or_family(path) not in (f"detectors/{family}", "detectors/families.py")
        and not (family == "ultralytics" and room_or_family(path) == "training/engines")
    ]
    assert foreign == []


def test_the_command_line_imports_nothing_heavy() -> None:
    program = (
        "import sys, edgekd.cli\n"
        "print([name for name in ('torch', 'numpy', 'ultralytics', 'pydantic', 'yaml', 'onnx', 'rich.table')"
        " if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_methods_and_families_are_known_before_anything_is_written(tmp_path: Path) -> None:
    """torchvision makes torch's compiler, which makes a folder at once; a run says later where that may be."""
    program = (
        "import sys; from edgekd.detectors.families import family_names; from edgekd.distill.contract import "
        "distiller_names; family_names(), distiller_names(); print('torchvision' in sys.modules)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == "False"
    assert list(tmp_path.iterdir()) == []


def test_help_comes_at_once() -> None:
    """In processor time, beside that of its own library: machines may be slow, and shared. Seen: 3 times as much."""

    def least_s(*program: str) -> float:
        seconds = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *program], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(seconds)

    assert least_s("-m", "edgekd.cli", "--help") < 8 * least_s("-c", "import typer")
