"""Every method of our own: the modules in the folders beside this file, imported so that they register themselves."""

from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

_HERE = str(Path(__file__).parent)

for _module in walk_packages([_HERE], "edgekd.distill."):
    if _module.name.count(".") > 2:  # in a folder, one per level
        import_module(_module.name)
