"""What a recipe's `train:` takes from the engine: each argument that its training uses, and what to write for the rest.

The engine has one list of arguments for training, validation, prediction and export, for every task. It reads all of
them without a word: those that do nothing in a training of a detector, and those that change the data, or what is
measured, behind the back of everything that edgekd states. `tests/training/engines/test_arguments.py` holds the two
lists here against the engine's own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Optimizer = Literal["auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop"]
Share = Annotated[float, Field(ge=0, le=1)]
Gain = Annotated[float, Field(ge=0, le=1000)]
_OPTIMIZERS = {name.lower(): name for name in Optimizer.__args__}  # type: ignore[attr-defined]


def _any_case(name: Any) -> Any:
    return _OPTIMIZERS.get(name.lower(), name) if isinstance(name, str) else name


class EngineArguments(BaseModel):
    """With the engine's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    epochs: int = Field(100, ge=1, le=100_000)
    patience: int = Field(100, ge=0, le=100_000, description="epochs without a better AP before it stops; 0: never")
    batch: int = Field(16, ge=1, le=65_536, description="images, of all processes together")
    imgsz: int = Field(
        640, ge=32, le=8192, multiple_of=32, description="side in px of training, validation and, by default, export"
    )
    cache: bool | Literal["ram", "disk"] = Field(False, description="keep decoded images in memory, or in RUN/data")
    # One: the engine would launch its own distributed training, which deletes the run's folder when it ends.
    device: Annotated[int, Field(ge=0, le=1023)] | Annotated[str, Field(pattern="^[^,]*$")] | None = Field(
        None, description="one device, e.g. 0 or cpu; for several GPUs leave it out and set train.gpus_per_node"
    )
    workers: int = Field(8, ge=0, le=256, description="processes that load images, of each training process")
    optimizer: Annotated[Optimizer, BeforeValidator(_any_case)] = Field("auto", description="in any case")
    deterministic: bool = True
    cos_lr: bool = Field(False, description="the learning rate falls as a cosine; else linearly")
    close_mosaic: int = Field(10, ge=0, le=100_000, description="last epochs, without mosaic")
    amp: bool | Literal["fp16", "bf16", "fp32"] = Field(True, description="true is fp16; on a CPU it is off")
    freeze: Annotated[int, Field(ge=0, le=1000)] | list[Annotated[int, Field(ge=0, le=1000)] | str] | None = Field(
        None, description="the first so many layers of the student, or a list of their numbers or module names"
    )
    multi_scale: float = Field(0.0, ge=0, lt=1, description="sizes of batches vary by this share of imgsz")
    compile: bool | Literal["default", "reduce-overhead", "max-autotune-no-cudagraphs"] = Field(
        False, description="by torch.compile; must be off when distilling"
    )
    channels_last: bool | None = Field(None, description="memory format of the student; null: as the device likes")
    lr0: float = Field(0.01, gt=0, le=1, description="first learning rate")
    lrf: Share = Field(0.01, description="last learning rate, as a share of lr0")
    momentum: float = Field(0.937, ge=0, lt=1, description="of SGD; beta1 of Adam and its kin")
    weight_decay: Share = 0.0005
    warmup_epochs: float = Field(3.0, ge=0, le=100_000)
    warmup_momentum: float = Field(0.8, ge=0, lt=1)
    warmup_bias_lr: Share = 0.1
    box: Gain = Field(7.5, description="weight of the box loss")
    cls: Gain = Field(0.5, description="weight of the classification loss")
    dfl: Gain = Field(1.5, description="weight of the distribution focal loss")
    cls_pw: Share = Field(0.0, description="how far rare classes weigh more: power of the inverse frequency")
    nbs: int = Field(64, ge=1, le=1_048_576, description="images per step: gradients of nbs / batch batches add up")
    hsv_h: Share = 0.015
    hsv_s: Share = 0.7
    hsv_v: Share = 0.4
    degrees: float = Field(0.0, ge=0, le=180)
    translate: Share = 0.1
    scale: Share | Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(min_length=2, max_length=2)] = Field(
        0.5, description="gain is drawn from 1 - scale to 1 + scale, or from [least, most]"
    )
    shear: float = Field(0.0, ge=0, le=180)
    perspective: float = Field(0.0, ge=0, le=0.001)
    flipud: Share = 0.0
    fliplr: Share = 0.5
    bgr: Share = Field(0.0, description="probability that channels are swapped")
    mosaic: Share = 1.0
    mixup: Share = 0.0
    cutmix: Share = 0.0


# What edgekd sets itself, with the key of the recipe that serves instead.
OWNED = {
    "model": "student.model", "pretrained": "student.weights", "cls_remap": "student.weights", "data": "data",
    "seed": "seed", "distill_model": "teacher", "dis": "distill[].weight", "nms": "student.head",
    "task": "nothing (detect)", "mode": "nothing (train)", "project": "--out", "name": "--out", "exist_ok": "--out",
    "save_dir": "--out", "resume": "nothing (a run goes on by itself)", "cfg": "train", "verbose": "nothing",
    "val": "nothing (always on)", "save": "nothing (always on)", "save_period": "train.checkpoint_minutes",
    "time": "epochs (what stops by the clock cannot be compared or resumed)", "plots": "report",
    "profile": "profile (a section of the recipe)", "quantize": "quantize (a section of the recipe) and export",
}  # fmt: skip

# What would change which images and objects are trained on or measured, unknown to data, report and gate.
_OTHER_DATA = {
    "single_cls": "a data set with one class", "classes": "a data set with these classes alone",
    "fraction": "a data set with fewer images", "split": "data (training is always validated on val)",
    "rect": "nothing (images are squares of imgsz; a rectangle for the artifact is the target's size)",
}  # fmt: skip
_OTHER_AP = {
    "conf": "validate.conf", "iou": "validate.iou", "max_det": "validate.max_det",
    "agnostic_nms": "nothing (AP is per class)", "augment": "nothing (for training: hsv_h, fliplr, mosaic ...)",
}  # fmt: skip

# What does nothing in the training of a detector.
_OF_EXPORT = ("format", "optimize", "dynamic", "simplify", "opset", "workspace", "half", "int8", "keras")
_OF_PREDICTION = (
    "source", "vid_stride", "stream_buffer", "visualize", "retina_masks", "embed", "show", "save_frames", "save_txt",
    "save_conf", "save_crop", "show_labels", "show_conf", "show_boxes", "line_width", "tracker", "dnn",
)  # fmt: skip
_OF_OTHER_TASKS = {
    "segmentation": ("overlap_mask", "mask_ratio", "copy_paste", "copy_paste_mode"),
    "classification": ("dropout", "auto_augment", "erasing"),
    "poses": ("pose", "kobj", "rle"),
    "oriented boxes": ("angle",),
    "depth": ("dlog", "dgrad", "dlam"),
}


def _refused() -> dict[str, str]:
    why = {key: f"edgekd sets this itself; use {instead} instead" for key, instead in OWNED.items()}
    hidden = "would train on other data than the report speaks of; use {} instead"
    why |= {key: hidden.format(instead) for key, instead in _OTHER_DATA.items()}
    why |= {key: f"would choose the weights by another AP; use {instead} instead" for key, instead in _OTHER_AP.items()}
    why |= dict.fromkeys(_OF_EXPORT, "does nothing in a training; use export and its targets instead")
    why |= {"half": "does nothing in a training; use train.amp, and an fp16 target in export, instead"}
    why |= {"int8": "does nothing in a training; use quantize, and an int8 target in export, instead"}
    why |= dict.fromkeys(_OF_PREDICTION, "does nothing in a training; leave it out")
    why |= {"save_json": "does nothing in a training; RUN/validate holds all detections"}
    for task, keys in _OF_OTHER_TASKS.items():
        why |= dict.fromkeys(keys, f"does nothing in the training of a detector, it is for {task}; leave it out")
    return why


REFUSED = _refused()
