"""The page of all commands and their options, as ``-h`` prints them."""

import os
from unittest.mock import patch

from typer import Context
from typer.main import get_command

from calibrate.cli import app

_WIDTH = "88"  # columns that a page shows without a bar to move it


def commands_page() -> str:
    """Every command with its help."""
    with patch.dict(os.environ, {"COLUMNS": _WIDTH, "TERMINAL_WIDTH": _WIDTH}):
        helps = [_command(name, command) for name, command in get_command(app).commands.items()]
    head = "# Commands and options\n\n[The command line](../command-line.md) has what all commands share."
    return "\n\n".join([head, *helps, ""])


def _command(name: str, command: object) -> str:
    context = Context(command, info_name=f"calibrate {name}", terminal_width=int(_WIDTH))
    return f"## {name}\n\n```text\n{command.get_help(context).strip()}\n```"
