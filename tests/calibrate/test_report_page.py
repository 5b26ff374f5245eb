"""The report's page in a real browser: Chromium without a window, driven by Playwright, no network."""

import re
import shutil

import pytest

from calibrate.report.contents import complete_rows
from calibrate.report.html import write_report
from tests.report_sample import HOSTILE, with_hostile_names

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install '.[test]'"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

READY = "html[data-explorer=ready]"
# WCAG contrast of every element's own text against the background that it stands on
CONTRASTS = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility()
    && !e.closest("svg, .bk-Figure, table.matrix") && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return texts.map((e) => {
    const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 40)];
  });
}"""
PLOTTED = """() => {
  const view = [...Bokeh.index.roots].find((root) => root.model.type === "Figure");
  const dots = view.model.renderers.map((r) => r.data_source).find((s) => s && s.data.row);
  const box = view.el.getBoundingClientRect();
  const at = (scale, values, origin) => [...values].map((value) => scale.compute(value) + origin);
  return {
    x: at(view.frame.x_scale, dots.data.x, box.x), y: at(view.frame.y_scale, dots.data.y, box.y),
    rows: [...dots.data.row], values: [...dots.data.x], label: view.model.below[0].axis_label,
  };
}"""


class Visit:
    """An open page, what it complained of, and what it asked the network for."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        self.complaints, self.requests = [], []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(5000)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text)
        )
        self.page.on(
            "dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss())
        )
        self.page.route("**/*", self._route)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(READY, state="attached")

    def _route(self, route):
        self.requests.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def column(self, name):
        heads = [head.strip() for head in self.page.locator("#worst thead th").all_inner_texts()]
        place = next(i for i, head in enumerate(heads) if head.rstrip(" ↓↑") == name)
        return self.page.locator(f"#worst tbody tr td:nth-child({place + 1})").all_inner_texts()

    def choose(self, select, value):
        self.page.select_option(select, value)
        self.page.wait_for_selector(READY, state="attached")

    def point_at(self, row):
        """Move the pointer onto the dot of a row."""
        self.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.page.locator("#chart").evaluate("(chart) => chart.scrollIntoView({ block: 'center' })")
        plotted = self.page.evaluate(PLOTTED)
        place = plotted["rows"].index(row)
        self.page.mouse.move(plotted["x"][place] + 40, plotted["y"][place] + 40)
        self.page.mouse.move(plotted["x"][place], plotted["y"][place])

    def reset(self):
        self.page.click("#clear")
        self.page.evaluate("scrollTo(0, 0)")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(browser, report):
    return Visit(browser, report / "report.html")


@pytest.fixture(scope="module")
def hostile(browser, full, tmp_path_factory):
    result = with_hostile_names(full)
    path = write_report(
        result, complete_rows(result.predictions), [], tmp_path_factory.mktemp("hostile")
    )
    return Visit(browser, path, width=390, scheme="dark")


def overflow(visit):
    return visit.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def test_it_opens_without_complaint_and_asks_for_nothing(visit):
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("file:")] == []
    assert len(visit.requests) == 1
    assert visit.page.locator("#chart canvas").count() >= 1


def test_a_filter_narrows_plot_table_and_tally(visit, full):
    visit.reset()
    visit.page.select_option("#filter-phase", "decode")
    decodes = int((full.predictions["phase"] == "decode").sum())
    assert set(visit.column("Phase")) == {"decode"}
    assert len(visit.page.evaluate(PLOTTED)["rows"]) == decodes
    assert visit.page.inner_text("#tally").startswith(f"{decodes} of {len(full.predictions)} steps")
    visit.page.click("#clear")
    assert len(visit.page.evaluate(PLOTTED)["rows"]) == len(full.predictions)


def test_a_slice_of_the_error_table_filters(visit, full):
    visit.reset()
    button = visit.page.locator('button.slice[data-field="tp"][data-value="8"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert visit.page.input_value("#filter-tp") == "8"
    assert set(visit.column("TP")) == {"8"}
    assert len(visit.page.evaluate(PLOTTED)["rows"]) == int((full.predictions["tp"] == 8).sum())
    visit.page.click('button.slice[data-field="all"]')
    assert visit.page.input_value("#filter-tp") == ""
    assert button.get_attribute("aria-pressed") == "false"


def test_the_table_starts_with_the_worst_rows_and_sorts(visit, full):
    visit.reset()
    worst = full.predictions.loc[
        full.predictions["residual"].abs().sort_values(ascending=False).index[:20], "line"
    ].tolist()
    assert [int(text.rpartition(":")[2]) for text in visit.column("Campaign:line")] == worst
    head = visit.page.locator("#worst th", has_text="Requests")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    down = [float(text.replace(",", "")) for text in visit.column("Requests")]
    assert down == sorted(full.predictions["batch"], reverse=True)[:20]
    head.get_by_role("button").click()
    assert [float(text.replace(",", "")) for text in visit.column("Requests")] == sorted(
        full.predictions["batch"]
    )[:20]
    visit.page.click("#more")
    assert len(visit.column("Requests")) == 40
    visit.page.locator("#worst th", has_text="Error").get_by_role("button").click()


def test_axes_are_chosen(visit, full):
    visit.reset()
    visit.choose("#axis-x", "batch")
    plotted = visit.page.evaluate(PLOTTED)
    assert plotted["label"] == "requests"
    assert plotted["values"] == full.predictions["batch"].tolist()
    visit.choose("#axis-y", "predicted")
    visit.choose("#axis-colour", "model")
    assert set(visit.page.locator("#legend li").all_inner_texts()) == set(full.predictions["model"])
    visit.choose("#axis-x", "measured")
    visit.choose("#axis-y", "error")
    visit.choose("#axis-colour", "phase")


def test_pointing_at_a_dot_shows_its_row(visit, full):
    visit.reset()
    lone = int(full.predictions["residual"].to_numpy().argmax())
    visit.point_at(lone)
    row = full.predictions.iloc[lone]
    where = f"{row['campaign']}:{row['line']}"
    visit.page.locator("#card", has_text=where).wait_for()
    card = " ".join(visit.page.inner_text("#card").split())
    for word in (
        row["model"],
        f"TP {row['tp']}",
        "Requests",
        "New tokens",
        "Measured",
        "Predicted",
        "90% band",
        "Weight",
    ):
        assert word in card, word
    visit.page.locator(".bk-Tooltip", has_text=row["model"]).wait_for()


def test_everything_is_reached_by_keyboard(visit):
    visit.reset()
    visit.page.locator("#axis-x").focus()
    reached = []
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        reached.append(
            visit.page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {
        "filter-phase",
        "filter-model",
        "filter-tp",
        "filter-campaign",
        "clear",
        "Measured (ms)",
    } <= set(reached)
    head = visit.page.locator("#worst th", has_text="Measured (ms)")
    head.get_by_role("button").focus()
    visit.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    visit.page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    first, second = visit.column("Campaign:line")[:2]
    visit.page.locator("#worst tbody tr").first.focus()
    assert first in visit.page.inner_text("#card")
    visit.page.keyboard.press("ArrowDown")
    assert second in visit.page.inner_text("#card")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(visit, scheme):
    visit.page.emulate_media(color_scheme=scheme)
    contrasts = visit.page.evaluate(CONTRASTS)
    faint = [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5]
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    visit.page.emulate_media(color_scheme="light")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert faint == []
    assert len(contrasts) > 500


def test_the_page_never_scrolls_sideways(visit, hostile):
    assert overflow(visit) <= 0
    assert overflow(hostile) <= 0


def test_it_prints_in_light_colours_without_controls(visit):
    visit.page.emulate_media(media="print", color_scheme="dark")
    shown = {
        name: visit.page.locator(name).first.is_visible()
        for name in (".verdict", "#worst", "#controls", "nav.sections")
    }
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    pdf = visit.page.pdf(prefer_css_page_size=True)
    visit.page.emulate_media(media="screen", color_scheme="light")
    assert shown == {".verdict": True, "#worst": True, "#controls": False, "nav.sections": False}
    assert background == "rgb(255, 255, 255)"
    assert pdf.startswith(b"%PDF")


def test_the_summary_is_one_page_that_says_what_it_leaves_out(visit):
    visit.page.evaluate("document.documentElement.classList.add('summary')")
    visit.page.emulate_media(media="print")
    shown = {
        name: visit.page.locator(name).first.is_visible()
        for name in (".verdict", "#parameters table", "#slices", "#provenance", ".figures")
    }
    note = visit.page.evaluate(
        "getComputedStyle(document.querySelector('main'), '::after').content"
    )
    pdf = visit.page.pdf(prefer_css_page_size=True)
    visit.page.evaluate("document.documentElement.classList.remove('summary')")
    visit.page.emulate_media(media="screen")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    assert [name for name, visible in shown.items() if not visible] == ["#provenance", ".figures"]
    assert "first six warnings" in note


def test_the_button_prints_the_summary_and_leaves_the_page_as_it_was(visit):
    visit.page.evaluate(
        "window.print = () => { window.printed = document.documentElement.className; }"
    )
    visit.page.click("#print-summary")
    visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert "summary" in visit.page.evaluate("window.printed").split()
    assert "summary" not in visit.page.evaluate("document.documentElement.className").split()


@pytest.mark.parametrize(
    ("media", "scheme", "follows"),
    [("screen", "dark", True), ("screen", "light", False), ("print", "dark", False)],
)
def test_plots_follow_the_dark_scheme_on_screens(visit, media, scheme, follows):
    visit.page.emulate_media(media=media, color_scheme=scheme)
    drawn = visit.page.evaluate("getComputedStyle(document.querySelector('figure img')).filter")
    visit.page.emulate_media(media="screen", color_scheme="light")
    assert ("invert" in drawn) == follows


@pytest.mark.slow
def test_hostile_names_are_text(hostile, visit):
    hostile.page.select_option("#filter-model", HOSTILE)
    assert set(
        hostile.page.locator("#worst tbody tr td:nth-child(2)").evaluate_all(
            "all => all.map((e) => e.textContent)"
        )
    ) == {HOSTILE}
    hostile.page.locator("#worst tbody tr").first.hover()
    assert hostile.page.locator("#card h4").text_content() == HOSTILE
    assert hostile.page.locator("li", has_text='<script>alert("1")</script>').count() >= 1
    assert hostile.page.locator("script").count() == visit.page.locator("script").count()
    hostile.page.set_viewport_size({"width": 1280, "height": 900})
    hostile.choose("#axis-x", "batch")
    assert overflow(hostile) <= 0
    hostile.point_at(hostile.page.evaluate(PLOTTED)["rows"][0])
    hostile.page.locator(".bk-Tooltip", has_text="<script>alert").wait_for()
    assert hostile.complaints == []
    assert len(hostile.requests) == 1
