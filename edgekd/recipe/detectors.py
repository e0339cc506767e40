"""The detectors of a recipe: who teaches, how, and who learns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from edgekd.files import path_fault
from edgekd.recipe.sections import MOST_ENTRIES, Strict

SEEDS = 2**32  # numpy's
DISK_KEYS = ("views", "view_seed", "store", "storage", "points")  # of a teacher, beside `knowledge: disk`
PREDICTIONS = "predictions"  # the family of a teacher that is a file of detections


def path_text(text: str) -> str:
    """A text that can be a path.

    Raises:
        ValueError: none can be called so.
    """
    if fault := path_fault(text):
        raise ValueError(f"{fault}; correct the path")
    return text


PathText = Annotated[str, AfterValidator(path_text)]


class DetectorRecipe(Strict):
    """A teacher or a student."""

    family: str | None = Field(
        None, description="library or paper that the model is of; default: the first whose models or weights it may be"
    )
    model: PathText | None = Field(None, description="name such as yolo26n, yolo11p, rtdetr-l, or a model YAML")
    weights: PathText | None = Field(
        None,
        description="a file, or the folder of a transformers model; relative to the recipe, then the current folder",
    )

    @model_validator(mode="after")
    def _something_given(self) -> DetectorRecipe:
        if self.model is None and self.weights is None:
            raise ValueError("give 'model' (a name such as yolo26n) or 'weights' (a file)")
        return self

    @property
    def file(self) -> str | None:
        """What it is opened from, beside `model`."""
        return self.weights


def _name_or_column(value: Any) -> Any:
    if value is not None and type(value) not in (int, str):
        raise ValueError(
            "a class of the teacher must be a name (in quotes where YAML reads it otherwise), a column or null"
        )
    return value


TeacherClass = Annotated[int | str | None, BeforeValidator(_name_or_column)]


class TeacherRecipe(DetectorRecipe):
    """The teacher, and how it is run while it teaches; its own AP is measured in torch and float32 whatever is set."""

    predictions: PathText | None = Field(
        None, description="JSON of its detections on the images of the data, in the place of model and weights"
    )
    runtime: Literal["eager", "compile", "openvino"] = Field(
        "eager", description="compile: by torch, for GPUs; openvino: for CPUs; both take outputs from one pass as it is"
    )
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="of its own; default: that of the student's step, with openvino fp32"
    )
    classes: dict[str, TeacherClass] = Field(
        default_factory=dict,
        description="class of the data: the teacher's class for it, by name or column; null: it does not know the "
        "class. Classes that are not listed are matched by name",
    )
    knowledge: Literal["online", "disk"] = Field(
        "online", description="disk: every teacher is run once on so many views of each image, and read from then on"
    )
    views: int = Field(1, ge=1, le=1000, description="with disk: augmented forms of each image; epochs cycle through")
    view_seed: int = Field(0, ge=0, lt=SEEDS, description="with disk: of these views, whatever the training's seed is")
    store: PathText | None = Field(
        None, description="with disk: folder or URL that recipes may share; default: RUN/knowledge"
    )
    storage: Literal["fp32", "fp16", "int8"] = Field(
        "fp16", description="with disk: of what is stored; int8 has a scale per channel"
    )
    points: int = Field(
        128, ge=0, le=1_000_000, description="with disk: of methods that allow it, the surest so many points; 0: all"
    )

    @model_validator(mode="after")
    def _of_the_disk(self) -> TeacherRecipe:
        changed = [key for key in DISK_KEYS if getattr(self, key) != type(self).model_fields[key].default]
        if self.knowledge == "online" and changed:
            raise ValueError(f"{', '.join(changed)}: only with 'knowledge: disk'; set it, or leave them out")
        return self

    @property
    def computing(self) -> dict[str, Any]:
        """What decides what it says, but for its classes; where that is kept decides nothing."""
        return self.model_dump(exclude={"classes", "predictions", "knowledge", *DISK_KEYS})

    @model_validator(mode="after")
    def _something_given(self) -> TeacherRecipe:
        if self.predictions is None:
            if self.model is None and self.weights is None:
                raise ValueError("give 'model' (a name such as yolo26n), 'weights' (a file) or 'predictions' (a JSON)")
            return self
        given = {"family": self.family not in (None, PREDICTIONS), "runtime": self.runtime != "eager"}
        given |= {key: getattr(self, key) is not None for key in ("model", "weights", "precision")}
        if wrong := [key for key, is_given in given.items() if is_given]:
            raise ValueError(f"{', '.join(wrong)}: not beside 'predictions', which nothing runs; leave one of them out")
        return self

    @property
    def file(self) -> str | None:
        """See `DetectorRecipe.file`."""
        return self.predictions or self.weights


class EnsembleRecipe(Strict):
    """Several teachers whose predictions are averaged, point by point."""

    of: tuple[str, ...] = Field(min_length=2, max_length=MOST_ENTRIES, description="names of teachers")
    by: Literal["mean", "confidence"] = Field(
        "mean", description="mean: all count alike; confidence: each by its best score at the point"
    )

    @model_validator(mode="after")
    def _members_differ(self) -> EnsembleRecipe:
        if len(set(self.of)) < len(self.of):
            raise ValueError("of: the same teacher twice; leave one out")
        return self


class StudentRecipe(DetectorRecipe):
    """The student. `head` governs checkpoint selection, validation, export and report alike."""

    head: Literal["one2many", "one2one"] | None = Field(
        None, description="branch to use of a two-branch head (YOLO26); default one2many; RT-DETR has none"
    )
    inherit: tuple[Literal["neck", "head"], ...] = Field(
        (), max_length=2, description="parts whose weights are the teacher's at the start, where shapes are equal"
    )
