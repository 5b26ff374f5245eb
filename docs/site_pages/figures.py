"""Figures of examples that pyplot does not know: those that a fit draws."""

from typing import Any

from sphinx_gallery.scrapers import figure_rst


def scrape_figure(_block: object, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The picture of the variable ``figure``, once; figures of pyplot are another scraper's."""
    figure = block_vars["example_globals"].pop("figure", None)
    if figure is None or hasattr(figure, "number"):
        return ""
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=110, bbox_inches="tight")
    return figure_rst([path], gallery_conf["src_dir"])
