"""``calibrate report``: draws a run's report again."""

from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import stdout


def command(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run, reports/<GPU>/<run>.", show_default=False)],
) -> None:
    """Draw the report again from result.json and predictions.csv."""
    from calibrate.report import draw_report
    from calibrate.result import read_run

    result, predictions = read_run(run_dir)
    stdout().print(f"report {draw_report(result, predictions, run_dir)}", soft_wrap=True, markup=False)
