"""What killed fits leave among the runs: cleared away, or put in its place where the configuration holds it already."""

import contextlib
import errno
import itertools
from pathlib import Path

from calibrate.outcome.run_files import read_result
from calibrate.records.errors import CalibrateError
from calibrate.records.workshop import abandoned_workshop
from sim.configuration import read_config
from sim.errors import SimError
from sim.hardware import find_gpu

WORKSHOP = ".run-"
DRAWN = "run"
CONFIG = "hardware_config.json"
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


def clear_leftovers(parent: Path, config: Path) -> None:
    """Clear a GPU's runs of what killed fits left; what living ones are at work on stays.

    A fit writes the configuration, then moves its run in: where it was killed between the two, the move is made up for.
    """
    for shop in parent.glob(f"{WORKSHOP}*"):
        with abandoned_workshop(shop) as is_ours, contextlib.suppress(OSError):
            if is_ours and _is_published(shop / DRAWN, config):
                place_run(shop / DRAWN, parent, read_result(shop / DRAWN).created)
    for run in parent.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it holds a run
            run.rmdir()


def place_run(drawn: Path, parent: Path, created: str) -> Path:
    """Move a whole run in under the time it was made, and a number where another has that name. Raises OSError."""
    stamp = created[:19].replace("-", "").replace(":", "").replace("T", "-")
    names = itertools.chain([stamp], (f"{stamp}-{count}" for count in itertools.count(2)))
    while True:
        try:
            return drawn.rename(parent / next(names))
        except OSError as error:
            if error.errno not in _TAKEN:
                raise


def _is_published(drawn: Path, config: Path) -> bool:
    """Whether a run is whole and the configuration has its values."""
    if not (drawn / CONFIG).exists():
        return False
    with contextlib.suppress(CalibrateError, SimError, OSError):
        gpu = read_result(drawn).gpu
        return _block(drawn / CONFIG, gpu) == _block(config, gpu)
    return False


def _block(file: Path, gpu: str) -> object:
    config = read_config(file)
    return config.get(find_gpu(gpu, config) or gpu)
