"""Binds a recipe to the rooms that own its parts, and reports every problem of the file at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from edgekd.atomic import sha256_file
from edgekd.data.config import CocoData, DigitsData, YoloData
from edgekd.data.unlabelled import in_vain
from edgekd.detectors.families import family_names
from edgekd.devices import catalog
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.tools.spec import fixed_shape_problem, missing_programs
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.errors import InputError
from edgekd.export.contract import Suppression, TargetSpec
from edgekd.export.targets import load_target
from edgekd.gate.policy import GateConfig
from edgekd.recipe.detectors import DetectorRecipe
from edgekd.recipe.load import bind, completed, read_recipe, sound_parts
from edgekd.recipe.lookup import find
from edgekd.recipe.schema import Recipe
from edgekd.recipe.sections import ThroughputRecipe
from edgekd.recipe.yaml_text import dump
from edgekd.stages import schedules
from edgekd.stages.distillers import bind_methods, long_form, refuse_hidden_methods
from edgekd.stages.families import weights_path, with_families

DataConfig = DigitsData | YoloData | CocoData
_DATA_TYPES: dict[str, type[DataConfig]] = {"digits": DigitsData, "yolo": YoloData, "coco": CocoData}
Result = TypeVar("Result")
_READ_IN_FOLDERS = (".json", ".safetensors", ".bin")


@dataclass(frozen=True)
class Bound:
    """A recipe whose every part is resolved and typed.

    Attributes:
        path: the recipe's file.
        base: the folder against which its relative paths are looked up first.
        distillers, quantize_distillers: methods of `distill`, and of `quantize.distill`.
        wants_verdict: the recipe has a section `gate:`, with budgets or without.
    """

    path: Path
    base: Path
    recipe: Recipe
    data: DataConfig
    distillers: tuple[tuple[str, DistillerConfig], ...]
    targets: tuple[TargetSpec, ...]
    devices: tuple[DeviceSpec, ...]
    gate: GateConfig
    quantize_distillers: tuple[tuple[str, DistillerConfig], ...] = ()
    wants_verdict: bool = True

    @property
    def where(self) -> str:
        """The recipe's name in messages."""
        return str(self.path)

    def weights_path(self, detector: DetectorRecipe) -> Path | None:
        """The weights file, or that of its detections: beside the recipe, else in the current folder."""
        return weights_path(detector, self.base)

    def locked(self) -> str:
        """The recipe with every default filled in, as YAML; a recipe itself, from which a stage can be done again."""
        content: dict[str, Any] = self.recipe.model_dump(mode="json", by_alias=True)
        content["data"] = self.data.model_dump(mode="json")
        content["distill"] = long_form(self.distillers)
        if self.recipe.quantize.mode == "qat":
            content["quantize"]["distill"] = long_form(self.quantize_distillers)
        content["export"] = [
            {"target": entry.target, **target.model_dump(mode="json")}
            for entry, target in zip(self.recipe.export, self.targets, strict=True)
        ]
        content["gate"] = self.gate.model_dump(mode="json")
        if not self.wants_verdict:
            del content["gate"]
        return dump(content)


def file_hash(path: Path | None) -> str | None:
    """Of a file that the recipe names; None for what is no file, such as the name of a model."""
    return sha256_file(path) if path is not None and path.is_file() else None


def hash_of_weights(path: Path | None) -> str | None:
    """Of the weights that the recipe names: a file, or a folder with what describes them beside them.

    Of an ONNX file with the JSON beside it, which says how it is used.
    """
    if path is None:
        return None
    if path.is_dir():
        read = sorted(one for one in path.iterdir() if one.suffix in _READ_IN_FOLDERS and one.is_file())
    elif path.suffix.lower() == ".onnx" and path.with_suffix(".json").is_file():
        read = [path, path.with_suffix(".json")]
    else:
        return file_hash(path)
    lines = [f"{sha256_file(one)}  {one.name}\n" for one in read]
    return sha256("".join(lines).encode()).hexdigest()


def bind_recipe(
    path: Path,
    overrides: tuple[str, ...] = (),
    base: Path | None = None,
    given: dict[str, Any] | None = None,
) -> Bound:
    """Read, validate and bind a recipe. Opens no data, and of weights at most a header that says what they are.

    Args:
        base: folder for relative paths, where it is not the recipe's own.
        given: the recipe itself, made in Python; `path` then stands for it in messages.

    Raises:
        InputError: one line per problem.
    """
    from edgekd.training.arguments import check_arguments, check_quantization_arguments

    content = read_recipe(path, overrides) if given is None else completed(given, path, overrides)
    where = str(path)
    problems: list[str] = []

    def attempt(action: Callable[[], Result]) -> Result | None:
        try:
            return action()
        except InputError as error:
            problems.extend(error.problems)
            return None

    recipe = attempt(lambda: bind(Recipe, content, where)) or sound_parts(content)
    base = base or path.parent
    recipe = attempt(partial(with_families, recipe, base, where)) or recipe
    data = attempt(lambda: _data(recipe, where)) if "data" in recipe.model_fields_set else None
    if data and data.unlabelled:
        why = in_vain(data.unlabelled, has_teacher=recipe.teacher is not None, has_methods=bool(recipe.distill))
        problems += [f"{where}: data.unlabelled.{why}"] if why else []
    distillers = [attempt(one) for one in bind_methods(recipe.distill, where, "distill")]
    quantize_distillers = [attempt(one) for one in bind_methods(recipe.quantize.distill, where, "quantize.distill")]
    targets = [attempt(partial(_target, recipe, index, where)) for index in range(len(recipe.export))]
    devices = [attempt(partial(_device, recipe, index, where)) for index in range(len(recipe.devices))]
    gate = attempt(lambda: bind(GateConfig, recipe.gate, where, "gate"))
    attempt(lambda: refuse_hidden_methods(where))
    attempt(lambda: check_arguments(recipe.train, bool(recipe.distill), where))
    attempt(lambda: check_quantization_arguments(recipe.train, recipe.quantize, where))
    for key, methods, epochs in (
        ("distill", distillers, recipe.train.get("epochs")),
        ("quantize.distill", quantize_distillers, recipe.quantize.epochs),
    ):
        problems += schedules.never_full(methods, epochs, where, key)
    attempt(lambda: _no_repeats([target.name for target in targets if target], f"{where}: export"))
    attempt(lambda: _no_repeats([device.name for device in devices if device], f"{where}: devices"))
    problems += _without_device([target for target in targets if target], [one for one in devices if one], where)
    problems += _unfit_for_tools([target for target in targets if target], [one for one in devices if one], where)
    problems += _other_iou([target for target in targets if target], recipe.validate_.iou, where)
    problems += _other_batch([target for target in targets if target], recipe.profile.throughput, where)
    if problems:
        raise InputError(*problems)
    assert data is not None
    assert gate is not None
    return Bound(
        path=path,
        base=base,
        recipe=recipe,
        data=data,
        distillers=tuple(entry for entry in distillers if entry),
        targets=tuple(entry for entry in targets if entry),
        devices=tuple(entry for entry in devices if entry),
        gate=gate,
        quantize_distillers=tuple(entry for entry in quantize_distillers if entry),
        wants_verdict="gate" in recipe.model_fields_set,
    )


def recipe_json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe for editors, with every method's and layout's own keys."""
    from edgekd.training.arguments import json_schemas

    schema = Recipe.model_json_schema(by_alias=True)
    definitions = schema["$defs"]

    def variants(key: str, types: dict[str, Any]) -> list[dict[str, Any]]:
        branches = []
        for name, model in types.items():
            part = TypeAdapter(model).json_schema(ref_template="#/$defs/{model}")
            definitions.update(part.pop("$defs", {}))
            part["properties"] = {key: {"const": name}, **part["properties"]}
            part["required"] = sorted({key, *part.get("required", [])})
            branches.append(part)
        return branches

    methods = {name: distiller_type(name).config_type for name in distiller_names()}
    definitions["DistillEnvelope"] = {"anyOf": [{"enum": list(methods)}, *variants("method", methods)]}
    for detector in ("TeacherRecipe", "StudentRecipe"):
        definitions[detector]["properties"]["family"]["examples"] = family_names()
    definitions["DataEnvelope"] = {"anyOf": variants("format", dict(_DATA_TYPES))}
    gate = GateConfig.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(gate.pop("$defs", {}))
    schema["properties"]["gate"] = gate
    train, quantize_train = json_schemas()
    schema["properties"]["train"] = train
    definitions["QuantizeRecipe"]["properties"]["train"] = quantize_train
    schema["properties"]["export"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/TargetEnvelope"}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "edgekd recipe"}


def _data(recipe: Recipe, where: str) -> DataConfig:
    model = _DATA_TYPES[recipe.data.format]
    return bind(model, {"format": recipe.data.format, **recipe.data.rest}, where, "data")  # type: ignore[type-var]


def _target(recipe: Recipe, index: int, where: str) -> TargetSpec:
    entry, place = recipe.export[index], f"{where}: export[{index}]"
    try:
        find("export", entry.target)
    except InputError as error:
        raise InputError(*(f"{place}.target: {problem}" for problem in error.problems)) from None
    return load_target(entry.target, entry.rest, place)


def _device(recipe: Recipe, index: int, where: str) -> DeviceSpec:
    try:
        return catalog.load(recipe.devices[index])
    except InputError as error:
        raise InputError(*(f"{where}: devices[{index}]: {problem}" for problem in error.problems)) from None


def _without_device(targets: list[TargetSpec], devices: list[DeviceSpec], where: str) -> list[str]:
    """Problems with targets that could be made, but run nowhere."""
    names = ", ".join(device.name for device in devices)
    return [
        f"{where}: devices: none of {names} has the runtime {target.runtime} of the target {target.name}; "
        "add a device that has it, leave the target out, or write 'devices: []', which exports and measures nothing"
        for target in targets
        if devices and not any(target.runtime in device.runtimes for device in devices)
    ]


def _unfit_for_tools(targets: list[TargetSpec], devices: list[DeviceSpec], where: str) -> list[str]:
    """Problems with timing programs that are not here, or cannot open what they would be given."""
    problems = [f"{where}: devices: {problem}" for device in devices for problem in missing_programs(device)]
    for target in targets:
        dynamic = "dynamic" in (target.batch, target.size)
        for device in devices:
            if target.runtime in device.runtimes and (
                problem := fixed_shape_problem(target.runtime, device, dynamic=dynamic)
            ):
                problems.append(f"{where}: export: {target.name}: {problem}")
    return problems


def _other_iou(targets: list[TargetSpec], iou: float, where: str) -> list[str]:
    """Problems with targets whose graph suppresses at another IoU than AP is measured with."""
    given = {
        target.name: Suppression.model_validate(target.options.get("nms", {})).iou
        for target in targets
        if target.nms == "in_graph"
    }
    return [
        f"{where}: validate.iou: is {iou:g}, but the NMS inside {name} uses {inside:g}; use one value, the target's is "
        "options.nms.iou"
        for name, inside in given.items()
        if inside != iou
    ]


def _other_batch(targets: list[TargetSpec], loads: Sequence[ThroughputRecipe], where: str) -> list[str]:
    """Problems with loads whose batch a target does not take."""
    return [
        f"{where}: profile.throughput[{index}].batch: is {load.batch}, but {target.name} is exported with a fixed batch"
        f" of {target.batch}; export it with 'batch: {load.batch}' or 'batch: dynamic', or leave the load out"
        for index, load in enumerate(loads)
        for target in targets
        if load.batch and target.batch not in ("dynamic", load.batch)
    ]


def _no_repeats(names: list[str], where: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{where}: given twice: {', '.join(repeated)}; remove one, or give it another name")
