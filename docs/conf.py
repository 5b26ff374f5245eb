"""How Sphinx builds the site: ``make docs``, then open docs/_build/html/index.html."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

from site_pages import write_pages  # noqa: E402  # from here, which only now is on the path
from site_pages.figures import scrape_figure  # noqa: E402
from site_pages.links import mend_links  # noqa: E402
from site_pages.workplace import make_workplace  # noqa: E402

from calibrate.records.distribution import VERSION  # noqa: E402

project = "calibrate"
author = "the authors of calibrate"
release = version = VERSION

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "auto_gallery/*.ipynb", "auto_gallery/*.py"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
suppress_warnings = ["config.cache"]  # the functions below cannot be pickled, and nothing is lost

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"calibrate {release}"
html_show_copyright = False
html_static_path = ["site_static"]
html_css_files = ["site.css"]

sphinx_gallery_conf = {
    "examples_dirs": str(make_workplace(DOCS / "_build" / "workplace")),
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": "^$",
    "image_scrapers": (scrape_figure, "matplotlib"),
    "default_thumb_file": str(DOCS / "report.png"),
    "within_subsection_order": "FileNameSortKey",
    "copyfile_regex": r"^$",
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1000,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
}

write_pages(DOCS / "generated")


def setup(app):
    """Links to files beside ``docs/`` lead to their pages on the site."""
    app.connect("source-read", mend_links)
