"""Files of JSON documents, one after another: of one run, a line each, or appended to one file run after run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from calibrate.importers.run_folder import read_text
from calibrate.records.errors import ImportFormatError

_WORD = re.compile(r"\S")


def json_documents(path: Path) -> Iterator[tuple[str, object]]:
    """Each document of a file, with where it begins: the file and the line.

    Raises ImportFormatError if the file cannot be read, or a document is not JSON.
    """
    text, decoder = read_text(path), json.JSONDecoder()
    at, line = 0, 1
    while word := _WORD.search(text, at):
        begins = word.start()
        line += text.count("\n", at, begins)
        try:
            document, at = decoder.raw_decode(text, begins)
        except (ValueError, RecursionError) as error:
            message = f"{path}:{line}: not readable JSON: {error}"
            raise ImportFormatError(
                f"{message}. Was the file cut off? Copy it again, or leave it out"
            ) from error
        yield f"{path}:{line}", document
        line += text.count("\n", begins, at)
