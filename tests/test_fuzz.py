"""A few hundred accidents to good files, the same every time: each reader reads what is left, or refuses it in words.

``make fuzz`` tries as many more as one likes.
"""

import os
from random import Random

import pytest

from tests.fuzz.case import Case, run
from tests.fuzz.folder import Folder
from tests.fuzz.mutations import damaged_folder
from tests.fuzz.readers import READERS, Reader
from tests.fuzz.tally import Tally
from tests.fuzz.workers import cases, run_everywhere, run_here

_CASES = 300
_SEED = 20


@pytest.fixture
def folder(tmp_path):
    """A folder for the files of a case."""
    root = tmp_path / "input"
    root.mkdir()
    return Folder(root)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.slow
def test_every_reader_reads_its_good_files(name, folder):
    assert READERS[name].good
    for good in READERS[name].good:
        folder.hold(good)
        READERS[name].read(folder.root)
        folder.empty()


def test_no_accident_ends_in_anything_but_words():
    tally = run_here(cases(_SEED, _CASES, [*READERS]))
    assert tally.cases == _CASES
    assert not tally.findings, "\n".join(tally.lines())


def test_a_case_is_the_same_every_time():
    for name in ("validate", "forward-pass-metrics", "documents"):
        first, second = (Case(3, name, 7).files() for _ in range(2))
        assert first == second
        assert Case(3, name, 8).files() != first


# -- what the fuzzer itself must find --------------------------------------------------------------------------------


def raises(root):
    raise KeyError("a field")


def hangs(root):
    while True:
        pass


def dies(root):
    os._exit(5)


def swallows(root):
    return bytearray(1 << 40)


@pytest.fixture
def reader(monkeypatch):
    """Another way to read one small file, in the place of all readers."""

    def add(read):
        monkeypatch.setitem(READERS, "bad", Reader(lambda: [{"file.json": b'{"a": 1}'}], read))
        return Case(0, "bad", 0)

    return add


@pytest.mark.parametrize(
    ("read", "kind"), [(raises, "KeyError at "), (hangs, "hang at "), (swallows, "MemoryError at ")]
)
def test_what_is_no_refusal_is_a_finding_with_its_line(reader, folder, read, kind):
    result = run(reader(read), folder, hang_s=0.2)
    assert result.outcome == "finding"
    assert result.kind.startswith(kind)
    assert "test_fuzz.py:" in result.kind


def test_findings_of_a_kind_are_one_with_the_first_case(reader, folder):
    reader(raises)
    tally = Tally()
    for number in range(3):
        case = Case(0, "bad", number)
        tally.add(case, run(case, folder))
    (found,) = tally.findings.values()
    assert (found.count, found.first) == (3, Case(0, "bad", 0))
    assert "--seed 0 --reader bad --case 0" in "\n".join(tally.lines())


def test_every_case_is_tried_once_on_however_many_processes():
    alone = run_here(cases(1, 40, ["checkpoint", "tables"]))
    together = run_everywhere(1, 40, ["checkpoint", "tables"], 2, lambda words: None)
    assert together.counts == alone.counts
    assert together.peak_bytes > 0


def test_costly_readers_are_tried_in_few_rounds():
    tried = [case.reader for case in cases(0, 40, ["checkpoint", "aiconfigurator"])]
    assert 1 <= tried.count("aiconfigurator") < 5


def test_an_accident_changes_the_folder_and_leaves_the_good_one(folder):
    good = READERS["validate"].good[0]
    before = dict(good)
    changed = [damaged_folder(good, Random(n))[0] for n in range(20)]
    assert good == before
    assert sum(files != good for files in changed) > 15
