"""The command line: one file a command; only here do errors become messages and exit codes.

Typer alone is imported at the top of these files; everything else when a command runs, so that help is quick.

In: a command and its options. Out: text, JSON, files, an exit code.
Uses: everything.
"""

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Annotated

import typer

from calibrate.cli import (
    bench,
    compare,
    evaluate,
    exporting,
    fit,
    importing,
    plan,
    predict,
    recommend,
    report,
    show,
    simulate,
    validate,
)
from calibrate.records.backend import drawing_to_files
from calibrate.records.errors import CalibrateError, RefusedFitError, printable
from sim.errors import SimError

app = typer.Typer(
    help="Fit the hardware parameters of LLM-inference latency models to measured campaigns.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("fit")(fit.command)
app.command("predict")(predict.command)
app.command("evaluate")(evaluate.command)
app.command("validate")(validate.command)
app.command("import")(importing.command)
app.command("export")(exporting.command)
app.command("report")(report.command)
app.command("compare")(compare.command)
app.command("plan")(plan.command)
app.command("bench")(bench.command)
app.command("simulate")(simulate.command)
app.command("recommend")(recommend.command)
app.command("show")(show.command)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if version:
        from calibrate.records.distribution import VERSION

        print(f"calibrate {VERSION}")
        raise typer.Exit


EXIT_BAD_INPUT = 1
EXIT_REFUSED_FIT = 3
EXIT_TERMINATED = 128 + signal.SIGTERM
_TYPER_INTERRUPTED = 130
_INTERRUPTED = (
    "Interrupted. Nothing is half written: report and configuration are there whole or not at all."
)
_NO_MEMORY = "there is not enough memory: give fewer rows or requests, or a larger machine"


def main() -> None:
    """Run the command line.

    Exits with 0, 1 (bad input, or Ctrl-C), 2 (wrong usage), 3 (a fit that is refused, errors above --fail-above) or
    143 (SIGTERM).
    """
    with drawing_to_files(), _interrupts() as interrupts:
        try:
            _run(interrupts)
        except SystemExit as end:
            if end.code and signal.SIGTERM in interrupts:
                sys.exit(EXIT_TERMINATED)
            raise


def _run(interrupts: list[int]) -> None:
    try:
        app()
    except RefusedFitError as error:
        _fail(str(error), EXIT_REFUSED_FIT)
    except (CalibrateError, SimError) as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, EXIT_BAD_INPUT)
    except SystemExit as end:
        if end.code == _TYPER_INTERRUPTED:
            _fail(_INTERRUPTED, EXIT_BAD_INPUT)
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_BAD_INPUT)
    except MemoryError:
        _fail(_NO_MEMORY, EXIT_BAD_INPUT)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", EXIT_BAD_INPUT)
    except Exception:
        if interrupts:  # an extension in C has made another error of it
            _fail(_INTERRUPTED, EXIT_BAD_INPUT)
        raise


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Note every Ctrl-C, and every SIGTERM, which ends like one; no callback swallows it in here."""
    interrupts: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield interrupts
        return
    # Not where a host, such as pytest, has its own
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _interrupt_again
    ends = (signal.SIGINT, signal.SIGTERM)
    previous = {end: signal.signal(end, interrupt) for end in ends}
    try:
        yield interrupts
    finally:
        for end, handler in previous.items():
            signal.signal(end, handler or signal.SIG_DFL)


def _interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Repeat, a moment later, a Ctrl-C that came inside a weak reference's callback, where Python drops it."""
    if lost.exc_type is KeyboardInterrupt:
        # Python is ending: there is nothing left to interrupt
        with contextlib.suppress(RuntimeError):
            threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _fail(message: str, code: int) -> None:
    print(f"calibrate: {printable(message)}", file=sys.stderr)
    sys.exit(code)
