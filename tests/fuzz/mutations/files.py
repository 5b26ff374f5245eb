"""Accidents to whole files: gone, empty, packed, called otherwise, a folder in its place."""

import gzip
from pathlib import PurePath
from random import Random

from tests.conftest import zstd
from tests.fuzz.samples import Files

_ENDS = (".csv", ".json", ".jsonl", ".parquet", ".gz", ".zst", ".yaml", ".toml", ".log", "")


def damage(folder: Files, name: str, chance: Random) -> str:
    """Do something to a file of a folder; return what, in words."""
    content = folder[name] or b""
    how = chance.choice(
        ("gone", "empty", "gzip", "zstd", "cut gzip", "renamed", "a folder", "both", "other")
    )
    if how == "gone":
        del folder[name]
    elif how == "renamed":
        folder[str(PurePath(name).with_suffix(chance.choice(_ENDS)))] = folder.pop(name)
    elif how == "both":
        folder[str(PurePath(name).with_suffix(chance.choice(_ENDS)))] = content
    elif how == "other":
        folder[name] = folder[chance.choice(sorted(folder))]
    elif how in ("gzip", "zstd"):
        packed = gzip.compress(content, mtime=0) if how == "gzip" else zstd(content)
        del folder[name]
        folder[name + chance.choice(("", ".gz", ".zst"))] = packed
        how = "packed"
    else:
        cut = gzip.compress(content, mtime=0)[: chance.randrange(2, 30)]
        folder[name] = {"empty": b"", "cut gzip": cut, "a folder": None}[how]
    return how
