"""What there is: targets, devices and methods, as rows."""

from __future__ import annotations

from typing import Any

from edgekd.devices import catalog
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.export.targets import load_target
from edgekd.recipe.lookup import available


def list_targets() -> list[dict[str, Any]]:
    """One row per YAML file in `export/`."""
    rows = []
    for name in sorted(available("export")):
        spec = load_target(name, {}, name)
        keys = {"runtime": spec.runtime, "precision": spec.precision, "batch": spec.batch}
        rows.append({"target": name, **keys, "steps": " > ".join(spec.steps)})
    return rows


def list_devices() -> list[dict[str, Any]]:
    """One row per YAML file in `devices/`."""
    specs = [catalog.load(name) for name in sorted(available("devices"))]
    return [{"device": spec.name, "transport": spec.transport, "runtimes": ", ".join(spec.runtimes)} for spec in specs]


def list_methods() -> list[dict[str, Any]]:
    """One row per distillation method."""
    import sys

    rows = []
    for name in distiller_names():
        kind = distiller_type(name)
        module = sys.modules[kind.__module__]
        defaults = {key: field.default for key, field in kind.config_type.model_fields.items() if key != "schedule"}
        rows.append({
            "method": name, "about": (module.__doc__ or "").strip().splitlines()[0],
            "keys": ", ".join(f"{key}={value}" for key, value in defaults.items() if value is not None),
        })  # fmt: skip
    return rows
