"""``python -m tests.pictures RUN``: takes the documents' pictures of the report of a run's folder, in Chromium.

At 1400 px light and dark, at 420 px, and the page that "Print one page" gives.
"""

import argparse
import io
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.conftest import ROOT

DOCS = ROOT / "docs"
COLOURS = 256  # by coverage: few pixels are red, and they matter
A4_PX = 794, 1123
CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run: reports/H100/…")
    page_file = parser.parse_args().run.resolve() / "report.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        take(opened(browser, page_file, (1400, 1000)), "report")
        take(opened(browser, page_file, (1400, 1000), scheme="dark"), "report-dark")
        take(opened(browser, page_file, (420, 900)), "report-420")
        take(as_summary(opened(browser, page_file, A4_PX)), "report-print")
        take(
            at_figures(opened(browser, page_file, (1400, 1000), scheme="dark")), "report-plots-dark"
        )
        browser.close()


def opened(browser: Any, file: Path, size: tuple[int, int], scheme: str = "light") -> Any:
    width, height = size
    viewport = {"width": width, "height": height}
    page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html.js", state="attached")
    return page


def as_summary(page: Any) -> Any:
    page.emulate_media(media="print")
    page.evaluate("document.documentElement.classList.add('summary')")
    return page


def at_figures(page: Any) -> Any:
    page.evaluate("document.querySelector('#errors .figures').scrollIntoView({ block: 'start' })")
    return page


def take(page: Any, name: str) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(DOCS / f"{name}.png", optimize=True)
    page.context.close()


if __name__ == "__main__":
    main()
