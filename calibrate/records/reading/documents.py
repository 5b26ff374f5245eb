"""JSON, TOML and YAML: one value a file, or JSON documents one after another."""

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibrate.records.errors import Problem, UnreadableError
from calibrate.records.reading.content import MOST_CONFIGURATION_BYTES, named, read_text
from sim.text_files import MOST_LEVELS, ContentError, check_value, json_value, next_json

_WORD = re.compile(r"\S")
_TOO_DEEP = re.compile(rf"(?:[\[{{]\s*){{{MOST_LEVELS + 1}}}")
_TOML_PLACE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclasses.dataclass(frozen=True)
class CutOff:
    """What stands for the last document of a file that ends in the middle of it."""

    def __str__(self) -> str:
        """The words for a user."""
        return "is cut off: left out"


def read_json(path: Path) -> object:
    """The one value of a JSON file. Raises UnreadableError if it cannot be read or holds something else."""
    text = read_text(path)
    with named(path):
        return json_value(text)


def read_json_documents(path: Path) -> Iterator[tuple[int, object]]:
    """Each JSON document of a file with the line on which it begins.

    A last one that is cut off, on one line and after others, is :class:`CutOff`. Raises UnreadableError if the file
    cannot be read, is empty, or holds anything else that is no JSON.
    """
    text = read_text(path)
    at, line, found = 0, 1, 0
    while word := _WORD.search(text, at):
        begins = word.start()
        line += text.count("\n", at, begins)
        try:
            document, at = next_json(text, begins)
        except ContentError as error:
            if found and error.line is not None and "\n" not in text[begins:].rstrip():
                yield line, CutOff()
                return
            what = Problem("error", str(path), error.what, error.fix, (error.line or line,))
            raise UnreadableError(what) from error
        yield line, document
        found += 1
        line += text.count("\n", begins, at)
    if not found:
        raise UnreadableError(
            Problem("error", str(path), "is empty", "Copy it again, or leave it out")
        )


def records_of(document: object) -> list[object]:
    """The entries of a list of records, which some tools write in the place of lines; else the document alone."""
    if isinstance(document, list) and document and all(isinstance(e, dict) for e in document):
        return document
    return [document]


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises UnreadableError if it cannot be read or holds something else."""
    text = read_text(path, MOST_CONFIGURATION_BYTES)
    with named(path):
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            place = _TOML_PLACE.search(str(error))
            what = f"is not readable TOML: {_TOML_PLACE.sub('', str(error))}"
            raise ContentError(what, "Correct it", int(place[1]) if place else None) from error
        except (
            ValueError,
            RecursionError,
        ) as error:  # numbers, or tables, beyond what Python reads
            raise ContentError(
                f"is not readable TOML: {_first_words(error)}", "Correct it"
            ) from error
        check_value(content, len(text))
        return content


def read_yaml(path: Path) -> object:
    """The content of a YAML file. Raises UnreadableError if it cannot be read or holds something else."""
    text = read_text(path, MOST_CONFIGURATION_BYTES)
    with named(path):
        return yaml_value(text)


def yaml_value(text: str) -> object:
    """The value of a YAML (or JSON) text. Raises ContentError for anything else, with the line where there is one."""
    import yaml

    if _TOO_DEEP.search(text):  # the parser takes seconds for what it then cannot read
        raise ContentError("not readable YAML: it is nested too deep", "Is it the right file?")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        raise ContentError(
            f"not readable YAML: {_first_words(error)}", "Correct it", line
        ) from error
    except (TypeError, RecursionError) as error:
        raise ContentError(f"not readable YAML: {_first_words(error)}", "Correct it") from error
    check_value(content, len(text))
    return content


def _first_words(error: Exception) -> str:
    """What an error of a parser says, on one line."""
    return " ".join(str(error).split())[:200]
