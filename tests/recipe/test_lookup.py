from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.recipe.lookup import available, find


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _write(path: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("name: x\n")
    return Path(path)


def test_a_path_is_itself():
    path = _write("anywhere/mine.yaml")
    assert find("recipes", str(path)) == path


def test_names_are_found_in_the_current_folder_and_below():
    _write("recipes/mine.yaml")
    _write("recipes/coco/big.yml")
    _write("recipes/notes.txt")
    assert find("recipes", "mine") == Path("recipes/mine.yaml")
    assert find("recipes", "coco/big") == Path("recipes/coco/big.yml")
    assert "notes" not in available("recipes")


def test_a_given_folder_goes_first():
    _write("devices/pi.yaml")
    path = _write("elsewhere/pi.yaml")
    assert find("devices", "pi", [Path("elsewhere")]) == path


def test_built_in_names_are_known_everywhere():
    assert find("devices", "local").name == "local.yaml"


def test_what_is_missed():
    _write("recipes/quick.yaml")
    with pytest.raises(InputError, match=r"unknown recipe 'quik' \(known: .*did you mean 'quick'\?\)"):
        find("recipes", "quik")
    with pytest.raises(InputError, match=r"^quick\.yaml: no such recipe file; .* did you mean 'quick'\?$"):
        find("recipes", "quick.yaml")
