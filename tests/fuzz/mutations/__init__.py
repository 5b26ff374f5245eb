"""Accidents to a folder's files: which file, and of what kind it is, chance says."""

from pathlib import PurePath
from random import Random

from tests.fuzz.mutations import columns, content, files, lines, tables, trees
from tests.fuzz.samples import Files

_BY_END = {
    ".json": (trees.damaged, lines.damaged),
    ".jsonl": (trees.damaged_line, lines.damaged),
    ".yaml": (trees.damaged, trees.damaged_yaml, lines.damaged),
    ".toml": (lines.damaged_setting, lines.damaged),
    ".csv": (tables.damaged, tables.damaged, lines.damaged),
    ".log": (lines.damaged,),
    ".parquet": (columns.damaged,),
}
_BYTES_CHANCE = 0.15
_FILES_CHANCE = 0.05
_MORE_CHANCE = 0.3


def damaged_folder(good: Files, chance: Random) -> tuple[Files, list[str]]:
    """The files after one accident or more, and what happened, in words."""
    damaged = dict(good)
    happened = []
    while True:
        happened.append(_accident(damaged, chance))
        if not damaged or chance.random() > _MORE_CHANCE:
            return damaged, happened


def _accident(folder: Files, chance: Random) -> str:
    name = chance.choice(sorted(folder))
    if chance.random() < _FILES_CHANCE:
        return f"{name}: {files.damage(folder, name, chance)}"
    structured = _BY_END.get(PurePath(name).suffix, ())
    how = chance.choice(structured or (content.damaged,))
    if chance.random() < _BYTES_CHANCE:
        how = content.damaged
    before = folder[name]
    if before is not None:
        folder[name] = how(before, chance)
    return f"{name}: {how.__module__.rpartition('.')[2]}.{how.__name__}"
