"""``calibrate report``: draws a run's report again."""

from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import stdout


def command(
    run_dir: Annotated[
        Path, typer.Argument(help="Folder of a run, reports/<GPU>/<run>.", show_default=False)
    ],
) -> None:
    """Draw the report again from result.json, predictions.csv and serving.csv."""
    from calibrate.outcome.run_files import read_run
    from calibrate.report import draw_report

    report = draw_report(read_run(run_dir), run_dir)
    stdout().print(f"report {report}", soft_wrap=True, markup=False)
