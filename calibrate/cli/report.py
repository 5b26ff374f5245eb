"""``calibrate report``: draws a run's report again."""

from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import stdout


def command(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run, reports/<GPU>/<run>.", show_default=False)],
) -> None:
    """Draw the report again from result.json, predictions.csv and serving.csv."""
    from calibrate.outcome.run_files import read_run, read_served
    from calibrate.report import draw_report

    result, predictions = read_run(run_dir)
    report = draw_report(result, predictions, run_dir, read_served(run_dir, result))
    stdout().print(f"report {report}", soft_wrap=True, markup=False)
