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
from typing import Annotated, Any

import typer

from calibrate.cli import (
    bench,
    cite,
    compare,
    doctor,
    evaluate,
    exporting,
    fit,
    importing,
    init,
    plan,
    predict,
    recommend,
    report,
    show,
    simulate,
    transfer,
    validate,
    watch,
)
from calibrate.cli.failure import Failure, end, fail, of_encoding, of_system
from calibrate.records.backend import drawing_to_files
from calibrate.records.errors import CalibrateError, RefusedFitError
from sim.errors import SimError

app = typer.Typer(
    help="Fit the hardware parameters of LLM-inference latency models to measured campaigns.",
    no_args_is_help=True,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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
app.command("watch")(watch.command)
app.command("transfer")(transfer.command)
app.command("show")(show.command)
app.command("init")(init.command)
app.command("doctor")(doctor.command)
app.command("cite")(cite.command)


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
_INTERRUPTED = Failure(
    EXIT_BAD_INPUT,
    "Interrupted. Nothing is half written: report and configuration are there whole or not at all.",
)
_NO_MEMORY = Failure(
    EXIT_BAD_INPUT,
    "there is not enough memory: give fewer rows or requests, or a larger machine",
)
_UsageError: Any = typer.BadParameter.__mro__[1]  # typer gives it no public name


def main() -> None:
    """Run the command line.

    Exits with 0, 1 (bad input, or Ctrl-C), 2 (wrong usage), 3 (a fit that is refused, errors above --fail-above,
    drift with --exit-on) or 143 (SIGTERM).
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
        code = app(prog_name="calibrate", standalone_mode=False)
    except _UsageError as error:
        error.show()
        end(Failure(error.exit_code, error.format_message()))
    except RefusedFitError as error:
        fail(Failure.of(error, EXIT_REFUSED_FIT))
    except (CalibrateError, SimError) as error:
        fail(Failure.of(error, EXIT_BAD_INPUT))
    except KeyboardInterrupt:
        fail(_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_BAD_INPUT)
    except MemoryError:
        fail(_NO_MEMORY)
    except OSError as error:
        fail(of_system(error, EXIT_BAD_INPUT))
    except UnicodeEncodeError as error:
        fail(of_encoding(error, EXIT_BAD_INPUT))
    except Exception:
        if interrupts:  # an extension in C has made another error of it
            fail(_INTERRUPTED)
        raise
    if code == _TYPER_INTERRUPTED:
        fail(_INTERRUPTED)
    sys.exit(code or 0)


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
