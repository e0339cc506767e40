"""The COCO layout: what is read, and every fault, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.data import problems
from edgekd.data.config import CocoData, load
from edgekd.errors import InputError
from tests.data.small_sets import coco_set, counts, picture, skipping, snapshot


def test_a_coco_set_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    before = snapshot(root)
    data = load(config, tmp_path / "run", root)
    assert snapshot(root) == before
    assert data.class_names == ("ant", "bee", "cat")  # in the order of 5, 7, 90
    first, second = data.splits["train"].images
    assert (first.image_id, first.file_name, first.height_px, first.width_px) == (10, "sub/a.png", 20, 40)
    assert first.boxes_px.tolist() == [[30.5, 10, 40, 20]]  # half a pixel outside, clipped
    assert first.class_ids.tolist() == [1]
    assert second.boxes_px.tolist() == [[1, 2, 4, 6], [0, 0, 40, 20]]
    assert second.class_ids.tolist() == [2, 0]
    assert second.is_crowd.tolist() == [False, True]


def test_faulty_coco_records_are_counted(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["images"] += [
            {"id": 30, "file_name": "c.png"},
            {"id": 30, "file_name": "other.png"},
            {"id": 31, "file_name": "d.png"},
            {"id": 32, "file_name": "./d.png"},
            {"id": 22, "file_name": "../secret.png"},
            {"id": 23, "file_name": "/etc/x.png"},
            {"id": "7", "file_name": "c.png"},
            {"id": 24, "file_name": "gone.png"},
            {"id": 25, "file_name": "turned.png", "height": 40, "width": 20},
            {"id": 26, "file_name": "x\ud800.png"},
            {"id": 27, "file_name": "e.png", "height": "20"},
            7,
        ]
        content["annotations"] += [
            {"id": 3, "image_id": 10, "category_id": 5, "bbox": [1, 1, 2, 2]},
            {"id": 4, "image_id": 99, "category_id": 5, "bbox": [1, 1, 2, 2]},
            *({"id": 100 + index, "image_id": 10, "category_id": 5, "bbox": [1, 1, 2, 2], **change}
              for index, change in enumerate((
                {"category_id": 6}, {"bbox": [1, 1, 2]}, {"bbox": None}, {"bbox": [1, 1, float("nan"), 2]},
                {"bbox": [1, 1, "3px", 2]}, {"bbox": [1, 1, -1, 2]}, {"bbox": [35, 1, 11, 2]}, {"iscrowd": "no"},
                {"iscrowd": 2}, {"id": "x"}, {"image_id": "10"},
            ))),
            {"id": 11, "image_id": 20, "category_id": 5, "bbox": [1, 1, 0, 2]},
            {"id": 12, "image_id": 20, "category_id": 5, "bbox": [35, 1, 10, 2]},
            {"id": 13, "image_id": 20, "category_id": 5, "bbox": [35, 1, 10, 2]},
            {"id": 14, "image_id": 24, "category_id": 5, "bbox": [1, 1, 2, 2]},
            None,
        ]  # fmt: skip

    root = tmp_path / "set"
    config = coco_set(root, spoil)
    picture(root / "images/train/turned.png")
    picture(root / "images/train/c.png", seed=9)
    data = load(skipping(config), tmp_path / "run", root)
    assert counts(data) == {
        ("train", problems.DUPLICATE_IMAGE_ID): 1,
        ("train", problems.TWO_RECORDS): 1,
        ("train", problems.BROKEN_IMAGE): 6,
        ("train", problems.DUPLICATE_ANNOTATION_ID): 1,
        ("train", problems.UNKNOWN_IMAGE): 1,
        ("train", problems.CLASS_RANGE): 1,
        ("train", problems.BROKEN_ANNOTATION): 7,
        ("train", problems.NOT_A_NUMBER): 2,
        ("train", problems.NEGATIVE_SIZE): 1,
        ("train", problems.NO_AREA): 1,
        ("train", problems.STICKS_OUT): 2,
        ("train", problems.OUTSIDE): 1,
        ("train", problems.MISSING_IMAGE): 1,
        ("train", problems.SIZE_DIFFERS): 1,
        ("train", problems.REPEATED_ANNOTATION): 1,
    }
    # Of image 10 objects are not known: it would be taught as background. Image 20 lost a box that covers no pixel.
    (kept,) = data.splits["train"].images
    assert kept.image_id == 20
    assert kept.boxes_px.tolist() == [[1, 2, 4, 6], [0, 0, 40, 20], [35, 1, 40, 3], [35, 1, 40, 3]]
    with pytest.raises(InputError) as caught:
        load(config, tmp_path / "run", root)
    assert len(caught.value.problems) == 14
    said = str(caught.value)
    for line in (
        f"{root}/train.json: train: duplicate image id: 1 found, e.g. image 30 (c.png and other.png); mend the data or",
        f"e.g. image 22 (file_name ../secret.png leads out of the image folder {root}/images/train), image 23 (",
        "images[8] (id '7' (text))",
        "annotation 3 of image 10 (an earlier one has this id)",
        "annotation 107 of image 10 (iscrowd 'no' (text) is neither 0 nor 1)",
        "annotation 101 of image 10 (bbox [1, 1, 2] is not [x, y, width, height])",
        "box mostly outside its image: 1 found, e.g. annotation 106 of image 10 (35.0 1.0 46.0 3.0 in 40x20)",
        "box that sticks out of its image: 2 found, e.g. annotation 12 of image 20 (35.0 1.0 45.0 3.0 in 40x20), "
        "annotation 13 of image 20 (35.0 1.0 45.0 3.0 in 40x20); mend the data or set data.on_problem: clip",
    ):
        assert line in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "must be an object with images, annotations and categories; it is a list"),
        ("{", "is not JSON"),
        ('{"images": [], "annotations": 3}', "annotations: must be a list"),
        ('{"images": [], "annotations": [], "categories": []}', "categories: empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
         r"categories\[1\]: id 1 is given twice"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
         r"categories\[1\]: name 'a' is given twice"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}',
         r"categories\[0\]: id 'x' \(text\) is no whole number"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": " "}]}', r"\[0\]: name is blank"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "\\ud800"}]}', "half of a surrogate pair"),
        ('{"images": [], "annotations": [], "categories": [{"id": 5, "name": "ant"}]}', "categories differ from those"),
    ],
)  # fmt: skip
def test_a_file_without_cocos_structure_is_refused(content: str, said: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    (root / "val.json").write_text(content)
    with pytest.raises(InputError, match=said):
        load(skipping(config), tmp_path / "run", root)


def test_numbers_are_parsed_and_not_coerced(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"id": 20.0, "height": 20.0, "width": 40.0}
        content["images"][0]["file_name"] = str(root / "images/train/b.png")
        content["categories"][0]["id"] = 90.0
        crowds = ("0", "1", 0.0, 1.0, False, True, None)
        content["annotations"] = [
            {"id": float(index), "image_id": 20.0, "category_id": 90.0, "bbox": [index, 2, 3.5, 4], "iscrowd": crowd}
            for index, crowd in enumerate(crowds)
        ]

    data = load(coco_set(root, change), tmp_path / "run", root)
    truth = data.splits["train"].images[1]
    assert (truth.image_id, truth.file_name, truth.height_px) == (20, "b.png", 20)
    assert truth.is_crowd.tolist() == [False, True, False, True, False, True, False]
    assert truth.boxes_px[0].tolist() == [0, 2, 3.5, 6]
    assert truth.class_ids.tolist() == [2] * 7
    assert data.problems == ()


def test_a_file_name_may_be_absolute_below_a_folder_that_is_a_link(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def change(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = str(tmp_path / "real/b.png")
        content["images"][1]["file_name"] = "sub/../sub/a.png"

    config = coco_set(root, change)
    (root / "images/train").rename(tmp_path / "real")
    (root / "images/train").symlink_to(tmp_path / "real")
    names = [truth.file_name for truth in load(config, tmp_path / "run", root).splits["train"].images]
    assert names == ["sub/a.png", "b.png"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_crowds_alone_is_refused(split: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    content = json.loads((root / f"{split}.json").read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    (root / f"{split}.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load(skipping(config), tmp_path / "run", root)
    assert caught.value.problems == (
        f"{root}/{split}.json: {split}: all of its boxes are crowds (iscrowd: 1), which are not trained and not "
        "counted in AP; label objects",
    )


def test_boxes_in_shares_of_one_are_named(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"] = [0.1, 0.2, 0.3, 0.4]

    with pytest.raises(InputError) as caught:
        load(coco_set(root, change), tmp_path / "run", root)
    assert caught.value.problems == (
        f"{root}/train.json: train: box in shares of 1, where COCO has pixels: 3 found, e.g. annotation 1 of image 20 "
        "(bbox [0.1, 0.2, 0.3, 0.4]), annotation 2 of image 20 (bbox [0.1, 0.2, 0.3, 0.4]), annotation 3 of image 10 "
        "(bbox [0.1, 0.2, 0.3, 0.4]); multiply x and width by the image's width, y and height by its height or set "
        "data.on_problem: skip",
    )


def test_numbers_of_a_box_may_stand_in_quotes(tmp_path: Path) -> None:
    """Of polygons, Roboflow (export of 2026-03) writes width and height so."""
    root = tmp_path / "set"
    plain = load(coco_set(root), tmp_path / "plain", root)

    def quote(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"][2:] = [f"{value:.4f}" for value in annotation["bbox"][2:]]

    quoted = load(coco_set(root, quote), tmp_path / "quoted", root)
    assert quoted.problems == plain.problems
    assert quoted.splits["train"].content_hash == plain.splits["train"].content_hash

    def negative(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"][2] = "-3.5"

    with pytest.raises(InputError, match=r"negative.*annotation 1 of image 20 \(-3.5 x"):
        load(coco_set(root, negative), tmp_path / "negative", root)


def test_turned_boxes_are_told(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def turn(content: dict[str, Any]) -> None:
        turns: tuple[Any, ...] = (
            90.0,
            359.6,
            "north",
        )  # the second is no turn to speak of, the third a user's own word
        for annotation, angle in zip(content["annotations"], turns, strict=False):
            annotation["attributes"] = {"occluded": False, "rotation": angle}

    told = [text for text in load(coco_set(root, turn), tmp_path / "run", root).warnings if "rotation" in text]
    assert told == [
        "train: boxes that attributes.rotation turns (CVAT): 1; they are read unturned; export oriented boxes, "
        "as docs/from-labelling-tools.md says"
    ]


def test_boxes_of_one_pixel_are_no_shares(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"] = [0, 0, 1, 1]

    assert load(coco_set(root, change), tmp_path / "run", root).problems == ()


def _with_root(content: dict[str, Any]) -> None:
    for category in content["categories"]:
        category["supercategory"] = "animals"
    content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})


def test_the_heading_of_the_categories_is_no_class(tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    for split in ("train", "val"):
        content = json.loads((root / f"{split}.json").read_text())
        _with_root(content)
        (root / f"{split}.json").write_text(json.dumps(content))
    data = load(config, tmp_path / "run", root)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.warnings[0] == (
        "category 0 'animals' is no class and is left out: no annotation has it, and all other categories name it as "
        "their supercategory, as Roboflow writes; delete it from categories"
    )
    content["annotations"][0]["category_id"] = 0
    (root / "val.json").write_text(json.dumps(content))
    assert load(config, tmp_path / "run", root).class_names == ("animals", "ant", "bee", "cat")


def test_systematic_faults_are_named_by_their_cause(tmp_path: Path) -> None:
    root = tmp_path / "set"

    def text_ids(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = f"image-{image['id']}"
        for annotation in content["annotations"]:
            annotation["image_id"] = f"image-{annotation['image_id']}"

    config = coco_set(root, text_ids)
    causes = [
        f"{root}/train.json: train: broken image record: 2 found, e.g. images[0] (id 'image-20' (text)), "
        "images[1] (id 'image-10' (text))",
        f"{root}/train.json: train: broken annotation record: 3 found, e.g. "
        + ", ".join(
            f"annotation {n} (image_id 'image-{i}' (text) is no whole number)" for n, i in ((1, 20), (2, 20), (3, 10))
        ),
    ]
    with pytest.raises(InputError) as caught:
        load(config, tmp_path / "run", root)
    assert list(caught.value.problems) == [f"{cause}; mend the data or set data.on_problem: skip" for cause in causes]
    with pytest.raises(InputError) as caught:
        load(skipping(config), tmp_path / "run", root)
    assert caught.value.problems[0] == (
        f"{root}/train.json: train: none of its 2 images has a usable label; check where the labels are"
    )
    assert list(caught.value.problems[1:3]) == causes


def test_an_absent_test_split_is_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    test = {"images": "images/test", "annotations": "test.json"}
    with_test = CocoData.model_validate({**config.model_dump(), "test": test})
    data = load(with_test, tmp_path / "run", root)
    assert set(data.splits) == {"train", "val"}
    assert data.warnings[:-2] == (f"test: {root}/images/test does not exist; no stage uses test, so it is left out",)
    (root / "images/test").mkdir()
    content = json.loads((root / "val.json").read_text())
    (root / "test.json").write_text(json.dumps(content))
    data = load(with_test, tmp_path / "run", root)
    assert set(data.splits) == {"train", "val"}
    assert data.warnings[:-2] == (
        "test: none of its 2 images is left; mend the data (test: missing image: 2 found, e.g. sub/a.png "
        "(No such file or directory), b.png (No such file or directory)); no stage uses test, so it is left out",
    )
    assert data.problems == ()


def test_files_that_the_annotations_do_not_list_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    picture(root / "images/train/extra.png", seed=9)
    (root / "images/train/film.gif").write_bytes(b"GIF89a")
    assert counts(load(config, tmp_path / "run", root)) == {
        ("train", problems.UNLISTED_IMAGE): 1,
        ("train", problems.UNREAD_FILE): 1,
    }


def test_missing_coco_paths_are_all_named(tmp_path: Path) -> None:
    parts = {split: {"images": f"no-{split}", "annotations": "none.json"} for split in ("train", "val")}
    with pytest.raises(InputError) as caught:
        load(CocoData.model_validate({"format": "coco", **parts}), tmp_path / "run", tmp_path)
    said = [problem.split(":")[0] for problem in caught.value.problems]
    assert said == ["data.train.images", "data.train.annotations", "data.val.images", "data.val.annotations"]
