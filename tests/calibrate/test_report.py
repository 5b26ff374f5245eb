"""The report without a browser: what it says of parts that are there, and of parts that are not."""

import dataclasses
import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from calibrate.outcome.result import (
    BandSummary,
    FitResult,
    ParameterResult,
    Previous,
    PreviousParameter,
)
from calibrate.outcome.verdict import Statement
from calibrate.report import draw_report
from calibrate.report.axis_zones import AXES, axis_zones
from calibrate.report.checks import checks
from calibrate.report.contents import complete_rows
from calibrate.report.explorer import explorer_data
from calibrate.report.frame import page_data
from calibrate.report.glossary import term_of
from calibrate.report.html import write_report
from calibrate.report.matrices import Bar, least_certain, singular_bars
from calibrate.report.parameter_tables import interval_rows, parameter_rows, previous_rows
from calibrate.report.plots import PLOTS
from calibrate.report.regimes import regime_moves, regime_table
from calibrate.report.style import house_style, new_figure
from calibrate.report.texts import change, interval, likely_cause

LIMIT_BYTES = 5_000_000


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(folder):
    """The page's visible text, tags and scripts left out."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", page_of(folder), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", bare).split())


@pytest.mark.slow
def test_the_page_is_small_and_needs_no_other_file(report, plain_report):
    for folder in (report, plain_report):
        page = page_of(folder)
        assert (folder / "report.html").stat().st_size < LIMIT_BYTES
        assert not re.search(r"<(link|iframe|object|embed|base)\b", page.partition("<script")[0])
        assert not re.search(
            r'(?:src|href)="(?!data:|#)', re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        )
        assert "default-src 'none'" in page


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(full, report, tmp_path):
    draw_report(full, tmp_path)
    for path in sorted(report.rglob("*.*")):
        assert (tmp_path / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name


def test_only_known_scripts_run_and_no_element_carries_a_handler(report):
    page = page_of(report)
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<[^>]+\son[a-z]+=", outside)
    policy = re.search(r"script-src ([^\"]*)", page).group(1)
    assert "unsafe" not in policy
    assert policy.count("sha256-") == len(re.findall(r"<script>", page))


def test_every_figure_is_written_as_png_and_svg(report, plain):
    pngs, svgs = (
        {path.stem for path in (report / "plots").glob(f"*.{kind}")} for kind in ("png", "svg")
    )
    drawn_of_plain = {draw.__name__ for draw, _, has in PLOTS if has(plain)}
    assert pngs == svgs == {"corner", *(draw.__name__ for draw, _, _ in PLOTS)}
    more = {"profiles", "distributions", "intervals", "sensitivity", "singular_values", "corner"}
    assert pngs - drawn_of_plain == more


@pytest.mark.parametrize(
    "words",
    [
        "Profiles",
        "Bootstrap",
        "MCMC",
        "Lack of fit",
        "A trend",
        "previous fit",
        "Priors",
        "90% band",
    ],
)
def test_parts_the_fit_did_not_make_are_not_spoken_of(report, plain_report, words):
    assert words not in text_of(plain_report)
    assert words in text_of(report) or f'alt="{words}' in page_of(report)


def test_a_run_without_held_out_rows_and_with_null_parts_is_drawn(full, tmp_path):
    bare = dataclasses.replace(
        full,
        metrics=dataclasses.replace(full.metrics, held_out={}),
        structure=(),
        outliers=(),
        profiles={},
        bootstrap=None,
        mcmc=None,
        bands=None,
        lack_of_fit=None,
        previous=None,
        config_diff=(),
        warnings=(),
    )
    empty = full.predictions.assign(held_out_us=np.nan, low_us=np.nan, high_us=np.nan, cause=np.nan)
    write_report(bare, complete_rows(empty), [], tmp_path)
    text = text_of(tmp_path)
    assert "No trend was found" in text
    assert "too few runs: nothing was held out" in text
    assert "No warnings" in text
    assert "nan" not in re.findall(r"[a-z]+", text)


def test_every_axis_that_has_a_name_is_explained(full):
    rows = complete_rows(full.predictions)
    named = set()
    with house_style():
        for draw, _, has in PLOTS:
            if has(full):
                figure, _ = draw(full, rows)
                named |= {label for axes in figure.axes for label in labels_of(axes)}
    assert named - AXES.keys() - {""} == set()


def labels_of(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def test_the_zone_of_an_axis_is_the_strip_beside_its_panel():
    figure, (left, right) = new_figure(10.0, 4.0, (1, 2), left=1.0, bottom=1.0, top=1.0)
    left.set_xlabel("steps")
    right.set_ylabel("direction")
    below, beside = axis_zones(figure)
    assert (below.top, below.height) == (75.0, 25.0)
    assert below.left == 10.0
    assert (beside.top, beside.height) == (25.0, 50.0)
    assert beside.left == pytest.approx(below.left + below.width)
    assert beside.text == f"direction: {AXES['direction']}"


def test_axes_are_explained_in_the_page(report):
    page = page_of(report)
    assert f'title="measured step time (ms): {AXES["measured step time (ms)"]}"' in page


def test_every_term_that_is_linked_is_in_the_glossary(report):
    page = page_of(report)
    linked = set(re.findall(r'href="#term-(\w+)"', page))
    assert {"tp", "interval", "collinearity", "condition", "singular", "influence"} <= linked
    assert linked <= set(re.findall(r'id="term-(\w+)"', page))


@pytest.mark.parametrize(
    ("method", "term"),
    [
        ("sandwich by model and TP", "sandwich"),
        ("profile likelihood", "profile"),
        ("bootstrap by run", "bootstrap"),
        ("Gauss-Newton", None),
    ],
)
def test_a_method_is_linked_by_the_term_it_begins_with(method, term):
    assert term_of(method) == term


def test_a_significance_is_said_by_its_sentence_alone(report):
    assert not re.search(r"\bp [<=] ", text_of(report))


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("as its run: a disturbed run", ("A disturbed run", "as its run")),
        ("no cause found", ("No cause found", "")),
        ("", ("", "")),
    ],
)
def test_a_cause_comes_before_what_speaks_for_it(said, cause):
    assert likely_cause(said) == cause


def test_bars_of_singular_values_are_logarithmic():
    assert singular_bars([0.2, 2.0, 0.0]) == [
        Bar(2.0, 1.0, 100.0),
        Bar(0.2, 10.0, 75.0),
        Bar(0.0, math.inf, 0.0),
    ]


def correlated(r):
    return {"a": {"a": 1.0, "b": r, "c": 0.0}, "b": {"a": r, "b": 1.0, "c": 0.0}, "c": UNRELATED}


UNRELATED = {"a": 0.0, "b": 0.0, "c": 1.0}


@pytest.mark.parametrize(
    ("r", "parts"),
    [(-0.9, [("a", 0.707), ("b", -0.707)]), (0.9, [("a", 0.707), ("b", 0.707)]), (0.2, [])],
)
def test_the_combination_known_least_is_of_what_is_correlated(r, parts):
    found = [(one.name, round(one.part, 3)) for one in least_certain(correlated(r))]
    assert found == parts


def test_the_diff_of_the_configuration_is_coloured_and_escaped(report):
    page = page_of(report)
    assert re.search(r"<del>-\s+&#34;mfuPrefill&#34;: 0.65,</del>", page)
    assert re.search(r"<ins>\+\s+&#34;mfuPrefill&#34;", page)
    assert "&lt;b&gt;kept&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ([0.7, None], "≥ 0.7"),
        ([None, 3.0], "≤ 3"),
        ([0.71, 0.76], "0.71 to 0.76"),
        ([None, None], "not bounded"),
        (None, "–"),
    ],
)
def test_intervals_say_which_side_is_open(ends, text):
    assert interval(ends) == text


def test_small_changes_are_not_rounded_to_nothing():
    assert change(1.0, 0.998) == "−0.2%"
    assert change(1.0, 1.06) == "+6%"


def parameter(**more):
    base = ParameterResult(
        name="p",
        value=0.8,
        start=0.6,
        unit="–",
        lower=0.0,
        upper=1.0,
        guide=(0.5, 0.7),
        stderr=0.05,
        ci90=(0.72, 0.9),
        ci90_method="a",
        intervals={},
        status="fitted",
        why="",
    )
    return dataclasses.replace(base, **more)


def test_an_open_interval_is_outside_the_guide_only_if_its_closed_side_is():
    closed, open_above, open_below = parameter_rows(
        [parameter(), parameter(ci90=(0.72, None)), parameter(ci90=(None, 0.9))]
    )
    assert (closed.outside_guide, open_above.outside_guide, open_below.outside_guide) == (
        True,
        True,
        False,
    )
    assert open_above.strip.ci_high == 100.0
    assert (open_above.strip.open_high, open_above.strip.open_low) == (True, False)
    assert open_below.unbounded == "not bounded below"


def test_intervals_of_several_methods_are_compared():
    alike, wide, mixed = interval_rows(
        [
            parameter(intervals={"a": (0.7, 0.9), "b": (0.71, 0.91)}),
            parameter(intervals={"a": (0.7, 0.9), "b": (0.5, 1.1)}),
            parameter(intervals={"a": (0.7, 0.9), "b": (0.7, None)}),
        ]
    )
    assert alike.agreement == "alike in width"
    assert wide.agreement == "widest 3.0 × the narrowest"
    assert mixed.agreement == "some are open on one side"


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ((0.5, 0.6), (0.7, 0.9), "apart"),
        ((0.5, 0.75), (0.7, 0.9), "overlap"),
        ((0.5, None), (0.7, 0.9), "overlap"),
        (None, (1, 2), "unknown"),
    ],
)
def test_the_previous_fit_is_compared_by_its_intervals(then, now, said):
    previous = Previous(
        "20261019-101500", "", "roofline-v1", {"p": PreviousParameter(0.55, then)}, None, None
    )
    (row,) = previous_rows(previous, [parameter(ci90=now)])
    assert row.overlap == said


def test_checks_follow_what_the_fit_found(full):
    rows = complete_rows(full.predictions)
    by_title = {check.title: check for check in checks(full, rows)}
    assert by_title["Form of the model"].level == "fair"
    assert by_title["Bands of steps"].value == "91.0%"
    at_bound = tuple(dataclasses.replace(p, status="at-bound") for p in full.parameters)
    stuck = dataclasses.replace(full, parameters=at_bound)
    found = {check.title: check for check in checks(stuck, rows)}["Parameters determined"]
    assert found.level == "fair"
    assert "at a bound" in found.more
    holds = dataclasses.replace(full, bands=None, lack_of_fit=None, structure=())
    by_title = {check.title: check for check in checks(holds, rows)}
    assert "Bands of steps" not in by_title
    assert by_title["Form of the model"].value == "holds"
    singular = dataclasses.replace(full.identifiability, condition_number=math.nan)
    blind = checks(dataclasses.replace(full, identifiability=singular), rows)
    assert "singular" in {check.title: check for check in blind}["Parameters determined"].more
    off = dataclasses.replace(full, bands=BandSummary(0.9, {"all": 0.6}))
    assert {check.title: check for check in checks(off, rows)}["Bands of steps"].level == "poor"


def test_regimes_are_counted_before_and_after():
    rows = pd.DataFrame(
        {
            "phase": ["decode"] * 3 + ["prefill"],
            "regime": ["memory", "memory", "host", "compute"],
            "before_regime": ["memory", "host", "host", "compute"],
        }
    )
    table = {(row["phase"], row["stage"]): row["counts"] for row in regime_table(rows)}
    assert table["decode", "before"] == {"memory": 1, "host": 2}
    assert table["decode", "after"] == {"memory": 2, "host": 1}
    assert table["All steps", "after"] == {"memory": 2, "host": 1, "compute": 1}
    assert regime_moves(rows) == [{"old": "host", "new": "memory", "n": 1}]
    assert {row["stage"] for row in regime_table(rows.assign(before_regime=""))} == {"after"}


def test_a_large_run_is_thinned_to_its_worst_rows_and_some_of_every_slice(full):
    rng = np.random.default_rng(1)
    many = complete_rows(full.predictions).sample(
        100_000, replace=True, random_state=0, ignore_index=True
    )
    rare = np.arange(100_000) < 50
    many = many.assign(
        line=np.arange(100_000),
        residual=rng.normal(0, 0.1, 100_000),
        model=np.where(rare, "rare", "common"),
        weight=np.where(rare, 1000.0, 0.5),
    )
    data = explorer_data(many)
    columns = data["columns"]
    assert (data["total"], data["held"]) == (100_000, 4000)
    worst = set(many["residual"].abs().nlargest(400).index)
    assert worst <= set(columns["line"])
    names = np.array(columns["model"]["names"])[columns["model"]["index"]]
    assert (names == "rare").sum() == 50
    assert {len(column) for column in columns.values() if isinstance(column, list)} == {4000}
    assert explorer_data(many) == data


def test_data_for_scripts_can_end_no_element():
    text = page_data({"name": "</script><script>alert(1)</script><!-- & \u2028 \u05d0"})
    assert not set("<>&") & set(text)
    assert json.loads(text)["name"].startswith("</script>")


def test_the_page_shows_every_statement_and_the_errors_with_rows_set_aside(plain, tmp_path):
    worse = dataclasses.replace(plain.metrics.after["all"], n=999, mape=0.4321)
    every_row = dataclasses.replace(plain.metrics, after={"all": worse})
    statements = (
        Statement("more of the same data", "good", "To 7.8%."),
        Statement("a model or TP not seen", "poor", "To 32.7%."),
        Statement("servers", "unknown", "Not known: composed."),
    )
    result = dataclasses.replace(
        plain,
        metrics=dataclasses.replace(plain.metrics, every_row=every_row),
        verdicts=statements,
    )
    again = FitResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.verdicts == statements
    assert again.metrics == result.metrics
    write_report(again, complete_rows(plain.predictions), [], tmp_path)
    text = text_of(tmp_path)
    for shown in (
        "On more of the same data good To 7.8%.",
        "On a model or TP not seen poor To 32.7%.",
        "On servers not known Not known: composed.",
        "With those set aside 999",
        "43.2%",
    ):
        assert shown in text


def test_steps_are_filtered_by_what_is_served_where_they_differ_in_it(full):
    rows = full.predictions
    alike = rows.assign(layers="dense", dtype="bf16", ep=1)
    assert not {"layers", "dtype", "ep"} & set(explorer_data(alike)["columns"])
    kinds = np.where(np.arange(len(rows)) % 2, "dense", "experts")
    columns = explorer_data(alike.assign(layers=kinds, ep=np.where(kinds == "dense", 1, 8)))[
        "columns"
    ]
    assert columns["layers"]["names"] == ["dense", "experts"]
    assert columns["ep"]["names"] == ["1", "8"]
    assert "dtype" not in columns
