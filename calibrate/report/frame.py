"""The frame all pages share: one file with its style, its scripts and its data, that reaches for nothing outside."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from calibrate.report import glossary, texts

_HERE = Path(__file__).parent
_FILTERS = (
    texts.percent,
    texts.signed_percent,
    texts.milliseconds,
    texts.number,
    texts.count,
    texts.rounded,
    texts.correlation,
    texts.moment,
    texts.rating,
    texts.interval,
    texts.likely_cause,
    glossary.term_of,
)


def render_page(template: str, scripts: Sequence[str], **content: Any) -> bytes:
    """A page as UTF-8, from a template that extends ``base.html.j2``.

    ``scripts`` are texts that run in turn when the page is read; the page's policy lets no other script run and
    nothing be fetched.
    """
    closed = [text.replace("</script", r"<\/script") for text in scripts]
    page = _environment().get_template(template)
    style = Markup(_read("report.css"))
    text = page.render(
        **content,
        style=style,
        scripts=[Markup(script) for script in closed],  # ours and the chart library's
        script_hashes=[_hash(script) for script in closed],
    )
    return text.encode("utf-8", "replace")


def own_script(name: str) -> str:
    """The text of a script of ours."""
    return _read(name)


def chart_scripts() -> list[str]:
    """The chart library, as it was installed: its core and the interface for scripts."""
    import bokeh

    folder = Path(bokeh.__file__).parent / "server" / "static" / "js"
    return [
        (folder / name).read_text(encoding="utf-8") for name in ("bokeh.min.js", "bokeh-api.min.js")
    ]


def page_data(content: Mapping[str, Any]) -> Markup:
    """JSON that can stand in a script element: no text in it ends the element or begins another."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    environment.tests["known"] = texts.is_known
    return environment


def _read(name: str) -> str:
    return (_HERE / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode(
        "ascii"
    )
