"""How this software is cited: one set of facts, in the forms that people paste."""

from calibrate.records.distribution import DISTRIBUTION, VERSION

TITLE = "calibrate: hardware parameters of LLM-inference latency models from measurements"
AUTHORS = "The calibrate authors"
YEAR = 2026
LICENCE = "Apache-2.0"


def bibtex() -> str:
    """An entry for a bibliography in BibTeX; two pairs of braces keep the authors one name."""
    fields = {
        "author": f"{{{AUTHORS}}}",
        "title": f"{{{TITLE}}}",
        "year": str(YEAR),
        "version": VERSION,
        "note": f"Python package {DISTRIBUTION}, {LICENCE}",
    }
    lines = [f"  {name:<7} = {{{value}}}," for name, value in fields.items()]
    return "\n".join(["@software{calibrate,", *lines, "}"]) + "\n"


def apa() -> str:
    """A reference in APA's style for software."""
    return f"{AUTHORS}. ({YEAR}). {TITLE} (Version {VERSION}) [Computer software].\n"


def citation_file() -> str:
    """The content of ``CITATION.cff``, in version 1.2.0 of the Citation File Format."""
    return "\n".join(
        [
            "cff-version: 1.2.0",
            "message: If you use this software, please cite it as below.",
            "type: software",
            f'title: "{TITLE}"',
            "authors:",
            f'  - name: "{AUTHORS}"',
            f'version: "{VERSION}"',
            f"license: {LICENCE}",
            "",
        ]
    )


FORMS = {"bibtex": bibtex, "apa": apa, "cff": citation_file}
"""The forms by name."""
