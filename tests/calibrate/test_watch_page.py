"""The commands of docs/watch.md, run as they stand on small logs of known truth."""

import json
import re
import shlex

import numpy as np
import pytest

from calibrate.watch.thresholds import FALSE_ALARMS, MOST_SLICES, MOST_WINDOWS, STEPS_A_DAY
from calibrate.watch.verdicts import Kind
from tests.calibrate.test_watch import moved
from tests.conftest import GUIDE_H100, ROOT
from tests.watched import noise, records, traffic

PAGE = (ROOT / "docs/watch.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture
def place(tmp_path, monkeypatch, h100):
    """A folder with the configuration and the logs that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "hardware_configs").mkdir()
    config = json.dumps({"H100": GUIDE_H100})
    (tmp_path / "hardware_configs/hardware_config.json").write_text(config)
    for seed, node in enumerate(("n1", "n2", "n3")):
        steps = traffic(14_000, seed=seed, phases=(0.5, 0.5, 0.0))
        extra = noise(14_000, 0.04, seed=seed)
        if node == "n2":
            extra[11_500:] += moved(steps, h100, BwEffConstant=0.67)[11_500:]
        text = records(steps, h100, log_extra=extra, node=node)
        (tmp_path / "logs" / f"{node}.jsonl").write_text(text)
    return tmp_path


def test_the_commands_of_the_page_run(place, calibrate):
    said = {}
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "calibrate"
        code, said[command], err = calibrate(*arguments)
        assert code == 0, err
    told = " ".join(said[COMMANDS[1]].split())
    shown = " ".join(re.search(r"    node  (Steps take.*?)BwEff", PAGE, re.DOTALL)[1].split())
    assert _form(shown) == _form(re.search(r"node (Steps take.*?)BwEff", told)[1])
    assert (place / "watch.html").exists()
    assert json.loads(said[COMMANDS[2]])["against"].startswith("profiles/H100/unknown/2026")


def _form(sentence):
    """A sentence without its figures."""
    return re.sub(r"\d[\d.:-]*", "#", sentence).strip()


def test_the_page_names_every_kind_of_verdict_and_the_thresholds():
    table = PAGE[PAGE.index("## Verdicts") :]
    for kind in Kind.__args__:
        assert f"`{kind}`" in table, kind
    assert f"{STEPS_A_DAY:,} steps" in PAGE
    assert f"({FALSE_ALARMS})" in PAGE
    assert f"{MOST_WINDOWS} windows" in PAGE
    assert f"{MOST_SLICES:,} slices" in PAGE
    assert np.isclose(86_400 / STEPS_A_DAY * 1e3, 8.6, atol=0.05)
