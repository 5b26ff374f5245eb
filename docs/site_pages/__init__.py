"""The pages of the site that are made when it is built: from registries, the command line, and docs/accuracy.json."""

from pathlib import Path

from site_pages.commands import commands_page
from site_pages.divergences import divergences_page
from site_pages.registries import formats_page, parameters_page

_INCLUDED = "```{{include}} ../../{0}\n:relative-docs: docs\n```\n"

PAGES = {
    "changelog.md": lambda: _INCLUDED.format("CHANGELOG.md"),
    "contributing.md": lambda: _INCLUDED.format("CONTRIBUTING.md"),
    "commands.md": commands_page,
    "divergences.md": divergences_page,
    "formats.md": formats_page,
    "parameters.md": parameters_page,
}


def write_pages(folder: Path) -> None:
    """Write every page that changed into the folder: Sphinx reads again what is newer."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        _write_changed(folder / name, page())


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
