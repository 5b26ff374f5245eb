"""``calibrate report``: draws a run's report again."""

from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli.console import JsonOption, print_json, stdout


def command(
    run_dir: Annotated[
        Path, typer.Argument(help="Folder of a run, reports/<GPU>/<run>.", show_default=False)
    ],
    json: JsonOption = False,
) -> None:
    """Draw the report again from result.json, predictions.csv and serving.csv."""
    from calibrate.outcome.run_files import read_run
    from calibrate.records.folders import filled_folder
    from calibrate.report import draw_report

    run = read_run(run_dir)
    with filled_folder(run_dir) as new:
        report = draw_report(run, new)
    path = run_dir / report.name
    if json:
        print_json({"report": str(path)})
    else:
        stdout().print(f"report {path}", soft_wrap=True, markup=False)
