"""The terms of a report that a reader may not know, in a sentence or two each; the page links to them."""

import dataclasses

from calibrate.report.checks import ILL_CONDITIONED


@dataclasses.dataclass(frozen=True)
class Term:
    """``id`` is the word under which the page finds it."""

    id: str
    name: str
    text: str


GLOSSARY = (
    Term(
        "tp",
        "TP",
        "Tensor parallelism: the number of GPUs that share every layer, each with a part of its matrices, and that "
        "add up their results over their links.",
    ),
    Term(
        "held-out",
        "held out",
        "Predicted by a fit that did not see the row. It is the error to expect on more of the same; that of a model "
        "or TP left out is the error to expect on another one.",
    ),
    Term(
        "interval",
        "90% interval",
        "The values that the data does not contradict at 90%. It is about the parameter; how far a prediction can be "
        "off is another question.",
    ),
    Term(
        "sandwich",
        "sandwich",
        "An interval from how strongly the rows' errors pull on the value, whole runs or slices at a time. It holds "
        "where errors are not equally large and not independent, which the textbook formula takes for granted.",
    ),
    Term(
        "profile",
        "profile likelihood",
        "An interval from fitting all other parameters again at each value of this one. It may be lopsided, or open "
        "where the data bounds one side only.",
    ),
    Term(
        "bootstrap",
        "bootstrap",
        "An interval from fits to runs drawn anew from those that were measured.",
    ),
    Term(
        "condition",
        "condition number",
        f"The best-seen combination of parameters against the worst-seen one. Above {ILL_CONDITIONED:,.0f} some values "
        "are determined only together.",
    ),
    Term(
        "collinearity",
        "collinearity index",
        "How much of a change of parameters can be made up for by changing others (Brun and others, 2001). 1: nothing. "
        "Above 10 to 15 a set of values cannot be told apart from others that fit as well.",
    ),
    Term(
        "singular",
        "singular value",
        "How strongly the data sees one combination of parameters, each scaled to unit length. A combination with a "
        "value a hundred times smaller is known a hundred times less well.",
    ),
    Term(
        "influence",
        "influence",
        "The share of a row's weight that the robust loss leaves it. At 0 the row was set aside.",
    ),
)


def term_of(text: str) -> str | None:
    """The id of the term with which a text begins; None where it begins with none."""
    return next((term.id for term in GLOSSARY if text.lower().startswith(term.name.lower())), None)
