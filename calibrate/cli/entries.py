"""Lists whose words are too long for a column: a line of facts, and the words below it, at any width."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_RULE = 80  # columns


def print_heads(console: "Console", heads: str) -> None:
    """The heads of the facts, over a rule."""
    console.print(heads, markup=False)
    console.print("─" * min(console.width, _RULE), style="dim")


def print_entry(console: "Console", facts: str, words: str) -> None:
    """One entry: its facts, then what is said of it, indented."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(facts, markup=False)
    console.print(Padding(Text(words, style="dim"), (0, 0, 0, 2)))
