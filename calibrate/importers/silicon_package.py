"""Where the package aiconfigurator-core (NVIDIA, Apache-2.0) keeps its measurements, and which version is installed."""

import importlib.metadata
import importlib.util
from pathlib import Path

from calibrate.records.distribution import install_extra
from calibrate.records.errors import ImportFormatError


def systems_folder() -> Path:
    """The package's folder ``systems``. Raises ImportFormatError if the package is not installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.origin is None:
        raise ImportFormatError(
            f"the package aiconfigurator-core is not installed: {install_extra('silicon')}"
        )
    return Path(spec.origin).parent / "systems"


def package_version(source: str) -> str:
    """The version of the installed package, if ``source`` is ``package``; else words for what was given."""
    return importlib.metadata.version("aiconfigurator-core") if source == "package" else "(a copy)"
