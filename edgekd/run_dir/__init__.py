"""The run directory: one manifest, stages that are done once, files that stay as they were written, and no two recipes
or processes in one."""

from edgekd.run_dir.directory import RunDir
from edgekd.run_dir.layout import SEARCH
from edgekd.run_dir.manifest import LOCKED_RECIPE, MANIFEST, MANIFEST_SCHEMA, Written, remedy, require_recipe

__all__ = ["LOCKED_RECIPE", "MANIFEST", "MANIFEST_SCHEMA", "SEARCH", "RunDir", "Written", "remedy", "require_recipe"]
