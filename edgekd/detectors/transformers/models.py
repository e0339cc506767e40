"""Model types that can be opened, and models that need no folder: published sizes, and small members (`-p`)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from edgekd.errors import InputError, unknown


@dataclass(frozen=True)
class Kind:
    """What the library's own inference does with the outputs of a model type.

    Attributes:
        softmax: scores are a softmax, whose last column is that no object is there; each query is one detection.
        most: detections of an image, the best of all queries and classes; None: as many as there are queries.
        normalised: by mean and deviation, where the processor's file does not say.
    """

    softmax: bool = False
    most: int | None = None
    normalised: bool = True


KINDS: dict[str, Kind] = {
    "detr": Kind(softmax=True),
    "table-transformer": Kind(softmax=True),
    "conditional_detr": Kind(most=100),
    "deformable_detr": Kind(most=100),
    "dab-detr": Kind(most=100),
    "rt_detr": Kind(normalised=False),
    "rt_detr_v2": Kind(normalised=False),
    "d_fine": Kind(normalised=False),
    "deimv2": Kind(normalised=False),
    "rf_detr": Kind(),
    "lw_detr": Kind(most=100),
}

LEARN = ("rt_detr", "rt_detr_v2", "d_fine", "deimv2")  # model types that can be trained here

_WIDTHS = [16, 24, 32, 48]
_RESNET = {
    "embedding_size": 16, "hidden_sizes": _WIDTHS, "depths": [1, 1, 1, 1], "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
_HGNET = {
    "model_type": "hgnet_v2", "stem_channels": [3, 8, 16], "stage_in_channels": [16, 16, 24, 32],
    "stage_mid_channels": [8, 8, 16, 16], "stage_out_channels": _WIDTHS, "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True], "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 5, 5], "stage_numb_of_layers": [1, 1, 1, 1], "embedding_size": 16,
    "hidden_sizes": _WIDTHS, "depths": [1, 1, 1, 1], "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
_REAL_TIME = {
    "encoder_hidden_dim": 32, "encoder_in_channels": _WIDTHS[1:], "encoder_ffn_dim": 64, "encoder_attention_heads": 4,
    "hidden_expansion": 0.5, "d_model": 32, "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 64,
    "decoder_attention_heads": 4, "decoder_layers": 3, "num_queries": 50, "num_denoising": 20,
    "freeze_backbone_batch_norms": False,
}  # fmt: skip
_DETR = {
    "backbone_config": {"model_type": "resnet", **_RESNET}, "use_timm_backbone": False, "backbone": None,
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 50,
}  # fmt: skip
_FINE = {"backbone_config": _HGNET, **_REAL_TIME, "max_num_bins": 16, "depth_mult": 0.34}

# name -> model type, and what its configuration has other than the library's default.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    # As published: https://github.com/Peterande/D-FINE, configs/dfine/dfine_hgnetv2_x_coco.yml
    "dfine-x": ("d_fine", {
        "backbone_config": {
            "model_type": "hgnet_v2", "stem_channels": [3, 32, 64], "stage_in_channels": [64, 128, 512, 1024],
            "stage_mid_channels": [64, 128, 256, 512], "stage_out_channels": [128, 512, 1024, 2048],
            "stage_num_blocks": [1, 2, 5, 2], "stage_downsample": [False, True, True, True],
            "stage_light_block": [False, False, True, True], "stage_kernel_size": [3, 3, 5, 5],
            "stage_numb_of_layers": [6, 6, 6, 6], "hidden_sizes": [256, 512, 1024, 2048], "embedding_size": 32,
            "out_features": ["stage2", "stage3", "stage4"],
        },
        "encoder_in_channels": [512, 1024, 2048], "encoder_hidden_dim": 384, "encoder_ffn_dim": 2048,
        "decoder_in_channels": [384, 384, 384], "decoder_n_points": [3, 6, 3],
        "freeze_backbone_batch_norms": False,  # as for a student from random weights; a folder says itself
    }),
    # https://github.com/Peterande/D-FINE, configs/dfine/dfine_hgnetv2_n_coco.yml: maps of strides 16 and 32 alone
    "dfine-n": ("d_fine", {
        "backbone_config": {
            "model_type": "hgnet_v2", "stem_channels": [3, 16, 16], "stage_in_channels": [16, 64, 256, 512],
            "stage_mid_channels": [16, 32, 64, 128], "stage_out_channels": [64, 256, 512, 1024],
            "stage_num_blocks": [1, 1, 2, 1], "stage_downsample": [False, True, True, True],
            "stage_light_block": [False, False, True, True], "stage_kernel_size": [3, 3, 5, 5],
            "stage_numb_of_layers": [3, 3, 3, 3], "hidden_sizes": [64, 256, 512, 1024], "embedding_size": 16,
            "use_learnable_affine_block": True, "out_features": ["stage3", "stage4"],
        },
        "encoder_in_channels": [512, 1024], "encoder_hidden_dim": 128, "encoder_ffn_dim": 512, "feat_strides": [16, 32],
        "encode_proj_layers": [1], "hidden_expansion": 0.34, "depth_mult": 0.5, "d_model": 128,
        "decoder_in_channels": [128, 128], "decoder_ffn_dim": 512, "num_feature_levels": 2, "decoder_layers": 3,
        "decoder_n_points": [6, 6], "freeze_backbone_batch_norms": False,
    }),
    "detr-p": ("detr", _DETR),
    "table-transformer-p": ("table-transformer", _DETR),
    "dab-detr-p": ("dab-detr", {"hidden_size" if key == "d_model" else key: value for key, value in _DETR.items()}),
    "conditional-detr-p": ("conditional_detr", _DETR),
    "deformable-detr-p": ("deformable_detr", {**_DETR, "num_feature_levels": 4}),
    "deformable-detr-two-stage-p": ("deformable_detr", {
        **_DETR, "num_feature_levels": 4, "two_stage": True, "with_box_refine": True, "two_stage_num_proposals": 50,
    }),
    "rt-detr-p": ("rt_detr", {"backbone_config": {"model_type": "rt_detr_resnet", **_RESNET}, **_REAL_TIME}),
    "rt-detr-v2-p": ("rt_detr_v2", {"backbone_config": {"model_type": "rt_detr_resnet", **_RESNET}, **_REAL_TIME}),
    "dfine-p": ("d_fine", _FINE),
    "deimv2-p": ("deimv2", _FINE),
    "lw-detr-p": ("lw_detr", {
        "backbone_config": {
            "model_type": "lw_detr_vit", "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3,
            "patch_size": 16, "num_windows": 4, "image_size": 64, "pretrain_image_size": 64,
            "window_block_indices": [0, 2], "out_features": ["stage2", "stage4"],
        },
        "projector_scale_factors": [1.0], "d_model": 32, "decoder_layers": 2, "decoder_ffn_dim": 64,
        "decoder_self_attention_heads": 4, "decoder_cross_attention_heads": 4, "num_queries": 10, "group_detr": 2,
    }),
    "rf-detr-p": ("rf_detr", {
        "backbone_config": {
            "model_type": "rf_detr_dinov2", "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3,
            "patch_size": 16, "num_windows": 2, "image_size": 64, "out_features": ["stage2", "stage4"],
        },
        "d_model": 32, "decoder_layers": 2, "decoder_ffn_dim": 64, "decoder_self_attention_heads": 4,
        "decoder_cross_attention_heads": 4, "num_queries": 10, "group_detr": 2,
    }),
}  # fmt: skip


def named(name: str, channels: int, class_names: tuple[str, ...], where: str) -> tuple[str, dict[str, Any]]:
    """Model type and configuration of a model that needs no folder.

    Args:
        channels: C of the images.

    Raises:
        InputError: there is no model of that name.
    """
    model_type, content = known(name, channels, where)
    content["id2label"] = dict(enumerate(class_names))
    content["label2id"] = {label: index for index, label in enumerate(class_names)}
    return model_type, content


def known(name: str, channels: int, where: str) -> tuple[str, dict[str, Any]]:
    """Model type, and what its configuration has other than the default, but for the classes.

    Args:
        channels: C of the images.

    Raises:
        InputError: there is no model of that name.
    """
    if name not in MODELS:
        raise InputError(f"{where}: {unknown('model', name, list(MODELS))}")
    model_type, asked = MODELS[name]
    content = deepcopy(asked)
    backbone = content["backbone_config"]
    backbone["num_channels"] = channels
    if "stem_channels" in backbone:
        backbone["stem_channels"][0] = channels
    return model_type, content


def kind_of(model_type: str, where: str) -> Kind:
    """What is known of a model type.

    Raises:
        InputError: it is served by nothing here.
    """
    if model_type not in KINDS:
        raise InputError(f"{where}: {unknown('model type', model_type, list(KINDS))}")
    return KINDS[model_type]
