"""Links to files that are no pages: on the site they lead to the page that shows the file."""

import re

_OUTSIDE = {
    "../CHANGELOG.md": "generated/changelog.md",
    "../CONTRIBUTING.md": "generated/contributing.md",
    "../README.md": "index.md",
}


def mend_links(_app: object, _name: str, source: list[str]) -> None:
    """Change them in the text of a page as it is read."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+)", _mended, source[0])
    source[0] = source[0].replace("](gallery)", "](auto_gallery/index.rst)")
    source[0] = re.sub(r"\]\(gallery/(\w+)\.py\)", r"](auto_gallery/\1.rst)", source[0])


def _mended(link: re.Match[str]) -> str:
    return f"]({_OUTSIDE.get(link[1], link[1])}"
