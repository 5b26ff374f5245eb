"""``calibrate watch`` as a person uses it: words, JSON, exit codes, the page, profiles."""

import html.parser
import json
import re
import shutil
import threading
import time

import numpy as np
import pandas as pd
import pytest

from calibrate.job.priors import read_priors
from calibrate.outcome.profiles import (
    Profile,
    ProfiledParameter,
    engine_folder,
    find_profile,
    read_profile,
    write_profile,
)
from calibrate.records.errors import CalibrateError
from sim import latency_model
from tests.calibrate.test_watch import moved
from tests.conftest import GUIDE_H100
from tests.watched import MODEL, noise, records, traffic

SAID = ("--gpu", "H100", "--model", MODEL, "--tp", 1, "--window", 200)
HOSTILE = "</script><img src=x onerror=alert(1)>[red]\x1b[31m"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A folder to work in, with the guide's configuration as hw.json."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hw.json"
    path.write_text(json.dumps({"H100": GUIDE_H100}))
    return path


def log_of(hardware, *, size=5000, begin=None, node="n1", seed=0, values=None):
    """A log's text whose steps take what ``values`` give from step ``begin`` on."""
    steps = traffic(size, seed=seed, phases=(0.7, 0.3, 0.0))
    extra = noise(size, 0.04, seed=seed)
    if begin is not None:
        extra[begin:] += moved(steps, hardware, **(values or {"BwEffConstant": 0.65}))[begin:]
    return records(steps, hardware, log_extra=extra, node=node)


@pytest.fixture
def logs(config, h100):
    """A folder of three logs, of which the second drifts."""
    folder = config.parent / "logs"
    folder.mkdir()
    for seed, node in enumerate(("n1", "n2", "n3")):
        begin = 3400 if node == "n2" else None
        text = log_of(h100, node=node, seed=seed, begin=begin)
        (folder / f"{node}.jsonl").write_text(text)
    return folder


def test_a_drift_is_said_with_node_time_and_parameter(logs, config, calibrate):
    code, out, _ = calibrate("watch", logs, *SAID, "--against", config)
    words = " ".join(out.split())
    assert code == 0
    assert "node n2 alone (n1, n3 did not move)" in words
    assert "2026-09-21 14:1" in words
    assert re.search(r"BwEffConstant 0\.72 → 0\.6[3-7]\d* \(", words)
    assert "memory clock?" in words
    assert "15,000 steps" in words
    assert "at most 0.01 a day over all slices" in words


def test_exit_on_drift(logs, config, calibrate):
    assert calibrate("watch", logs, *SAID, "--against", config, "--exit-on", "drift")[0] == 3
    (logs / "n2.jsonl").unlink()
    code, out, _ = calibrate("watch", logs, *SAID, "--against", config, "--exit-on", "drift")
    assert code == 0
    assert "Nothing has drifted" in out


def test_json_is_one_document_that_holds_what_the_words_say(logs, config, calibrate):
    code, out, _ = calibrate("watch", logs, *SAID, "--against", config, "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["drift"], said["steps"], said["window"]) == (True, 15_000, 200)
    assert said["by"] == ["node", "engine", "model", "phase"]
    (change,) = said["changes"]
    assert change["kind"] == said["verdicts"][0]["kind"] == "node"
    assert change["refit"]["moved"][0]["name"] == "BwEffConstant"
    assert change["alarms"][0]["slice"]["node"] == "n2"
    assert {one["slice"]["node"] for one in change["unmoved_slices"]} >= {"n1", "n3"}
    decode = next(one for one in said["slices"] if one["slice"]["phase"] == "decode")
    assert decode["judged"]
    assert decode["windows"][0]["factor"] == pytest.approx(1.0, abs=0.02)
    assert decode["ci90"][0] < decode["factor"] < decode["ci90"][1]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--by", "nodes"), 2, "divided by node, engine, model, tp"),
        (("--false-alarms", "0"), 2, "a chance between 0 and 1"),
        (("--window", "10"), 2, "100"),
        (("--exit-on", "rain"), 2, "drift"),
        (("--latency-model", "roofline-v9"), 1, "roofline-v1"),
        (("--reference", "run"), 1, "is no run with predictions"),
        (("--against", "none.json"), 1, "none.json"),
        (("--against", "logs"), 1, "neither a run"),
        (("--html", "none/page.html"), 1, "no such folder"),
    ],
)
def test_what_cannot_be_is_refused_in_words(logs, config, calibrate, options, code, words):
    arguments = ("watch", logs, *SAID, "--against", config, *options, "--json")
    ended, out, err = calibrate(*arguments)
    assert ended == code
    assert words in " ".join((err + json.loads(out)["error"]["message"]).split())


def test_a_source_without_steps_is_refused(config, calibrate):
    log = config.parent / "log.jsonl"
    log.write_text("nothing\nof it\n")
    code, _, err = calibrate("watch", log, *SAID, "--against", config)
    assert (code, "has no step with a time (2 in lines that are no records" in err) == (1, True)
    code, _, err = calibrate("watch", "none", *SAID, "--against", config)
    assert (code, "none: no such file or folder" in err) == (1, True)


def test_a_follower_tells_drift_as_it_comes_and_keeps_its_state(config, h100, calibrate):
    log = config.parent / "log.jsonl"
    lines = log_of(h100, begin=3400).splitlines(keepends=True)
    log.write_text("".join(lines[:3000]))
    writer = threading.Thread(target=lambda: (time.sleep(1.0), _append(log, lines[3000:])))
    writer.start()
    options = ("--follow", "--idle", 2.5, "--json")
    code, out, _ = calibrate("watch", log, *SAID, "--against", config, *options)
    writer.join()
    first, last = map(json.loads, out.splitlines())
    assert code == 0
    assert first["change"]["refit"]["moved"][0]["name"] == "BwEffConstant"
    assert last["watched"]["steps"] == 5000
    assert (config.parent / "watch-H100.npz").exists()
    code, out, _ = calibrate("watch", log, *SAID, "--against", config, "--follow", "--idle", 0)
    assert code == 0
    assert "drift  " not in out  # it was told
    assert "BwEffConstant" in out


def _append(log, lines):
    with log.open("a") as file:
        file.write("".join(lines))


def test_a_follower_may_end_with_the_first_drift(config, h100, calibrate):
    log = config.parent / "log.jsonl"
    log.write_text(log_of(h100, begin=3400))
    arguments = ("watch", log, *SAID, "--against", config, "--follow", "--exit-on", "drift")
    assert calibrate(*arguments)[0] == 3


class _Page(html.parser.HTMLParser):
    """The elements of a page, and that each is closed."""

    VOID = ("meta", "line", "circle", "polyline", "polygon", "br", "img", "link")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID and tag not in ("p", "li", "td", "th", "tr"):
            while self.open and self.open[-1] in ("p", "li", "td", "th", "tr"):
                self.open.pop()
            assert self.open.pop() == tag
        elif self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_has_a_chart_a_slice_is_whole_and_reaches_for_nothing(config, h100, calibrate):
    log = config.parent / "log.jsonl"
    log.write_text(log_of(h100, node=HOSTILE, begin=3400))
    code, out, _ = calibrate("watch", log, *SAID, "--against", config, "--html", "page.html")
    text = (config.parent / "page.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    tags = [tag for tag, _ in page.seen]
    assert code == 0
    assert "\x1b[31m" not in out
    assert tags.count("figure") == 2
    assert tags.count("script") == 1
    assert "img" not in tags
    classes = [attributes.get("class") for tag, attributes in page.seen if tag == "line"]
    assert classes.count("alarm") == 1
    assert classes.count("usual") == 2
    assert "BwEffConstant 0.72 → 0.6" in text
    assert not re.search(r"(src|href)=\"(?!#|data:)", text)
    assert "nan" not in re.sub(r"<[^>]*>", "", text).lower().split()


def test_the_page_of_traffic_outside_names_points(config, h100, calibrate):
    log = config.parent / "log.jsonl"
    small = records(traffic(3000, phases=(1, 0, 0), largest=8), h100, log_extra=noise(3000, 0.04))
    large = traffic(600, phases=(1, 0, 0), largest=256)
    large = large[large["num_decode_requests"] > 32]
    log.write_text(small + records(large, h100, begins_s=1.79e9 + 60))
    code, out, _ = calibrate("watch", log, *SAID, "--against", config, "--html", "page.html")
    assert code == 0
    assert "Points to measure" in out
    assert "num_decode_requests" in (config.parent / "page.html").read_text(encoding="utf-8")


def test_what_holds_is_published_once_then_confirmed_then_followed(config, h100, calibrate):
    log = config.parent / "log.jsonl"
    arguments = ("watch", log, *SAID, "--against", config, "--publish", "profiles")
    log.write_text(log_of(h100))
    assert "is new" in calibrate(*arguments, "--engine", "vllm 0.19")[1]
    again = calibrate(*arguments, "--engine", "vllm 0.19")[1]
    assert "confirmed until 2026-09-21T14:1" in " ".join(again.split())
    (folder,) = (config.parent / "profiles/H100/vllm-0.19").iterdir()
    first = read_profile(folder)
    assert first.values == GUIDE_H100
    assert (first.parent, first.valid_until, first.engine) == (str(config), "", "vllm 0.19")

    log.write_text(log_of(h100, begin=3400))
    assert "is new" in calibrate(*arguments, "--engine", "vllm 0.19")[1]
    old, new = sorted((config.parent / "profiles/H100/vllm-0.19").iterdir())
    assert read_profile(old).valid_until == read_profile(new).valid_from
    second = find_profile(config.parent / "profiles/H100/vllm-0.19")
    assert second.folder == new
    values = second.profile.values
    assert values["BwEffConstant"] == pytest.approx(0.65, abs=0.02)
    assert {k: v for k, v in values.items() if k != "BwEffConstant"} == {
        k: v for k, v in GUIDE_H100.items() if k != "BwEffConstant"
    }
    error = next(one for one in second.profile.parameters if one.name == "BwEffConstant").stderr
    assert second.profile.covariance["BwEffConstant"]["BwEffConstant"] == pytest.approx(error**2)
    assert "BwEffConstant" in second.profile.why


def test_a_node_apart_is_published_to_nobody(logs, config, calibrate):
    calibrate("watch", logs, *SAID, "--against", config, "--publish", "profiles")
    found = find_profile(config.parent / "profiles/H100/unknown")
    assert found.profile.values == GUIDE_H100
    assert "part of the fleet" in found.profile.why


@pytest.fixture
def profile(config):
    """A profile with one interval, in which the bandwidth is lower."""
    values = {**GUIDE_H100, "BwEffConstant": 0.65}
    parameters = tuple(
        ProfiledParameter(name, value, 0.002, (0.646, 0.654))
        if name == "BwEffConstant"
        else ProfiledParameter(name, value)
        for name, value in values.items()
    )
    made = Profile(
        1, "H100", "e", "roofline-v1", "now", "0", "log", "hw", "why", "a", "", "b", 10, parameters
    )
    return write_profile(config.parent / "profiles", made, values, "2026-01-02-030405")


def test_compare_evaluate_and_watch_read_profiles(profile, config, calibrate, h100):
    _, out, _ = calibrate("compare", config, profile.parent, "--json")
    pair = next(p for p in json.loads(out)["parameters"] if p["name"] == "BwEffConstant")
    assert (pair["a"], pair["b"], pair["ci90_b"]) == (0.72, 0.65, [0.646, 0.654])

    steps = traffic(30, phases=(1, 0, 0)).assign(latency_us=9000.0)
    folder = config.parent / "ground_truth/H100/mine"
    folder.mkdir(parents=True)
    steps.to_csv(folder / "steps.csv", index=False)
    (folder / "campaign.toml").write_text('title = "x"\nkind = "measured"\n')
    code, out, err = calibrate("evaluate", "--gpu", "H100", "--hardware-config", profile, "--json")
    assert code == 0, err
    assert json.loads(out)["hardware_config"] == str(profile / "hardware_config.json")

    log = config.parent / "log.jsonl"
    log.write_text(log_of(h100.with_values({"BwEffConstant": 0.65})))
    code, out, _ = calibrate("watch", log, *SAID, "--against", profile.parent, "--json")
    said = json.loads(out)
    assert (code, said["against"]) == (0, str(profile))
    decode = next(one for one in said["slices"] if one["slice"]["phase"] == "decode")
    assert decode["factor"] == pytest.approx(1.0, abs=0.02)


def test_a_damaged_profile_is_refused_with_its_file(profile, config, calibrate):
    text = (profile / "profile.json").read_text()
    for damaged, words in (
        (text.replace('"gpu": "H100"', '"gpu": 7'), "gpu = 7"),
        (text.replace('"schema_version": 1', '"schema_version": 9'), "schema_version = 9"),
        (text[:50], "profile.json"),
    ):
        (profile / "profile.json").write_text(damaged)
        code, _, err = calibrate("compare", config, profile)
        assert code == 1
        assert str(profile / "profile.json") in err
        assert words in err


def test_engines_are_folders_that_can_be(tmp_path):
    assert engine_folder(tmp_path, "H100", "vllm 0.19/../x").name == "vllm-0.19-..-x"
    assert engine_folder(tmp_path, "H100", "..").name == "unknown"
    assert engine_folder(tmp_path, "H100", "").name == "unknown"


def test_a_run_gives_its_own_residuals_as_the_reference(config, h100, calibrate, no_profiles):
    steps = traffic(600, phases=(0.6, 0.4, 0.0))
    slow = steps.assign(run_id=[f"r{i // 20}" for i in range(600)])
    log = records(steps, h100, log_extra=noise(600, 0.03))
    us = [json.loads(line)["wall_time"] * 1e6 for line in log.splitlines()]
    folder = config.parent / "ground_truth/H100/mine"
    folder.mkdir(parents=True)
    slow.assign(latency_us=us).to_csv(folder / "steps.csv", index=False)
    (folder / "campaign.toml").write_text('title = "x"\nkind = "measured"\n')
    from calibrate.cli import fit as command
    from tests.conftest import one_plot

    assert command is not None
    with one_plot():
        code, _, err = calibrate(
            *("fit", "--gpu", "H100", "--hardware-config", config, "--starts", 1, "--force")
        )
    assert code == 0, err
    (run,) = (config.parent / "reports/H100").glob("2*")
    same = config.parent / "same.jsonl"
    same.write_text(log_of(h100))
    code, out, _ = calibrate("watch", same, *SAID, "--against", run, "--reference", "run", "--json")
    assert code == 0
    assert json.loads(out)["verdicts"][0]["kind"] == "nothing"
    slower = h100.with_values({"BwEffConstant": 0.6})
    same.write_text(log_of(slower))
    code, out, _ = calibrate("watch", same, *SAID, "--against", run, "--reference", "run", "--json")
    said = json.loads(out)
    assert said["drift"]
    assert said["changes"][0]["since"] < 1.79e9 + 60  # from the start
    assert said["changes"][0]["refit"]["moved"][0]["name"] == "BwEffConstant"
    code, out, _ = calibrate("watch", same, *SAID, "--against", run)
    assert "Changes since are judged, not this" in " ".join(out.split())
    code, _, err = calibrate(
        *("watch", same, *SAID, "--against", run, "--latency-model", "roofline-v3")
    )
    assert (code, "was fitted with roofline-v1" in err) == (1, True)


def test_a_fit_starts_from_a_profile_as_its_prior(profile, config, h100, calibrate, no_profiles):
    hardware = h100.with_values({"BwEffConstant": 0.7})
    steps = traffic(300, phases=(0.6, 0.4, 0.0))
    us = latency_model("roofline-v1").predict_us(_table(steps), hardware)
    folder = config.parent / "ground_truth/H100/mine"
    folder.mkdir(parents=True)
    rows = steps.assign(latency_us=us * np.exp(noise(300, 0.05)), run_id=np.arange(300) // 10)
    rows.to_csv(folder / "steps.csv", index=False)
    (folder / "campaign.toml").write_text('title = "x"\nkind = "measured"\n')
    options = ("--gpu", "H100", "--hardware-config", config, "--starts", 1, "--dry-run", "--json")
    code, out, err = calibrate("fit", *options, "--prior", profile.parent, "--force")
    assert code == 0, err
    one = next(p for p in json.loads(out)["parameters"] if p["name"] == "BwEffConstant")
    assert one["prior"]["source"] == profile.name
    assert (one["prior"]["mean"], one["prior"]["sd"]) == (0.65, 0.002)
    assert one["prior"]["data"] == pytest.approx(0.7, abs=0.04)
    low, high = sorted((0.65, one["prior"]["data"]))
    assert low <= one["value"] <= high
    bare = config.parent / "bare"
    shutil.copytree(profile, bare)
    text = (bare / "profile.json").read_text().replace('"stderr": 0.002', '"stderr": null')
    (bare / "profile.json").write_text(text)
    code, _, err = calibrate("fit", *options, "--prior", bare)
    assert (code, "has no standard error" in err) == (1, True)


def test_a_profiles_covariance_is_the_priors(profile):
    content = json.loads((profile / "profile.json").read_text())
    for one in content["parameters"]:
        if one["name"] == "mfuPrefill":
            one |= {"stderr": 0.03, "ci90": [0.6, 0.7]}
    covariance = {
        "BwEffConstant": {"BwEffConstant": 4e-6, "mfuPrefill": -3e-5},
        "mfuPrefill": {"BwEffConstant": -3e-5, "mfuPrefill": 9e-4},
    }
    (profile / "profile.json").write_text(json.dumps({**content, "covariance": covariance}))
    priors = read_priors(str(profile), 4.0, ("BwEffConstant", "mfuPrefill", "mfuDecode"))
    assert set(priors) == {"BwEffConstant", "mfuPrefill"}
    assert priors["mfuPrefill"].sd == pytest.approx(0.015)
    assert priors["mfuPrefill"].correlated == {"BwEffConstant": pytest.approx(-0.5)}
    covariance["mfuPrefill"]["BwEffConstant"] = covariance["BwEffConstant"]["mfuPrefill"] = -9e-5
    (profile / "profile.json").write_text(json.dumps({**content, "covariance": covariance}))
    with pytest.raises(CalibrateError, match="that of no distribution"):
        read_priors(str(profile), 1.0, ("BwEffConstant", "mfuPrefill"))


def _table(steps: pd.DataFrame):
    from sim import StepTable

    return StepTable.from_columns(steps)
