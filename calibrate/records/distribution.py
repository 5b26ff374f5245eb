"""What pip calls this package: the name ``calibrate`` is another project's on PyPI."""

DISTRIBUTION = "llm-calibrate"
VERSION = "0.1.0"  # pyproject.toml reads it here


def install_extra(extra: str) -> str:
    """The command that installs an extra, for messages."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
