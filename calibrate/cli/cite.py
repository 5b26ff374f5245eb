"""``calibrate cite``: how to cite this software."""

from enum import StrEnum
from typing import Annotated

import typer

from calibrate.cli.console import JsonOption, print_json


class Form(StrEnum):
    """In which form."""

    bibtex = "bibtex"
    apa = "apa"
    cff = "cff"


def command(
    form: Annotated[Form, typer.Option("--format", help="Form of the reference.")] = Form.bibtex,
    json: JsonOption = False,
) -> None:
    """Print how to cite this version: BibTeX, APA, or the content of CITATION.cff."""
    from calibrate.records.citation import FORMS

    if json:
        print_json({name: write() for name, write in FORMS.items()})
    else:
        print(FORMS[form](), end="")
