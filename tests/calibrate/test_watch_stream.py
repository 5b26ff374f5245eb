"""Logs as they grow: rotation, truncation, garbage, a restart; and every form of source gives the same steps."""

import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest

from calibrate.records.errors import CalibrateError, ImportFormatError, UnreadableError
from calibrate.watch.calibrated import Calibrated
from calibrate.watch.labels import Said
from calibrate.watch.remote import RemoteStream
from calibrate.watch.session import Session
from calibrate.watch.slices import Settings
from calibrate.watch.stream import Stream
from calibrate.watch.watch import Watch
from sim import latency_model
from tests.datasets import write_dataset
from tests.watched import MODEL, noise, records, traffic, watched_rows

SAID = Said(MODEL, 1)


@pytest.fixture
def lines(h100):
    """Sixty records of one node."""
    return records(traffic(60), h100).splitlines(keepends=True)


@pytest.fixture(params=[False, True], ids=["closed between", "kept open"])
def follow(request):
    """Makes streams that close their logs between readings, or keep them open; all are closed in the end."""
    streams = []

    def opened(source):
        streams.append(Stream(source, SAID, follow=request.param))
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


def steps_in(stream):
    return sum(map(len, stream.poll()))


def test_new_lines_are_read_once(tmp_path, lines, follow):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines[:20]))
    stream = follow(log)
    assert (steps_in(stream), steps_in(stream)) == (20, 0)
    with log.open("a") as file:
        file.write("".join(lines[20:30]) + lines[30][:40])
    assert steps_in(stream) == 10
    with log.open("a") as file:
        file.write(lines[30][40:])
    assert steps_in(stream) == 1
    assert stream.left_out.total() == 0


def test_a_log_that_is_renamed_is_read_to_its_end_and_the_new_one_from_its_start(
    tmp_path, lines, follow
):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines[:20]))
    stream = follow(log)
    assert steps_in(stream) == 20
    with log.open("a") as file:
        file.write("".join(lines[20:25]))
    log.rename(tmp_path / "log.jsonl.1")
    log.write_text("".join(lines[25:40]))
    assert steps_in(stream) + steps_in(stream) == 20
    assert steps_in(stream) == 0


def test_a_log_that_is_gone_for_a_while_is_waited_for(tmp_path, lines, follow):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines[:20]))
    stream = follow(tmp_path)
    assert steps_in(stream) == 20
    log.unlink()
    assert steps_in(stream) == 0
    log.write_text("".join(lines[20:50]))
    assert steps_in(stream) + steps_in(stream) == 30


@pytest.mark.parametrize("again", [5, 30], ids=["shorter", "grown beyond"])
def test_a_log_that_is_cut_is_read_from_its_new_beginning(tmp_path, lines, follow, again):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines[:20]))
    stream = follow(log)
    assert steps_in(stream) == 20
    with log.open("r+") as file:  # the same file, as copytruncate leaves it
        file.truncate(0)
        file.write("".join(lines[25 : 25 + again]))
    assert steps_in(stream) == again
    assert any("was cut" in note for note in stream.notes())


@pytest.mark.parametrize(
    "garbage",
    [
        b"Traceback (most recent call last):\n",
        b"\x00\xff\xfe\x80 binary\n",
        b'{"version":1,"worker_id":"n1","wall_time":',
        b'{"wall_time": "soon", "scheduled_requests": {"num_prefill_requests": 1}}\n',
        b'{"wall_time": -1, "scheduled_requests": {"num_prefill_requests": 1}}\n',
        b"[1, 2]\n",
        b"null\n",
        b"x" * 3_000_000 + b"\n",
    ],
    ids=["words", "bytes", "cut", "text", "negative", "list", "null", "long"],
)
def test_garbage_is_counted_and_what_stands_around_it_is_read(tmp_path, lines, garbage):
    log = tmp_path / "log.jsonl"
    good = [line.encode() for line in lines]
    log.write_bytes(b"".join([*good[:20], garbage, b"\n", *good[20:40]]))
    stream = Stream(log, SAID)
    assert steps_in(stream) == 40
    assert stream.left_out.total() == 1


def test_a_step_of_more_tokens_than_any_is_counted(tmp_path, lines):
    record = json.loads(lines[0])
    record["scheduled_requests"]["sum_decode_kv_tokens"] = 1e200
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines) + json.dumps(record) + "\n")
    stream = Stream(log, SAID)
    assert (steps_in(stream), stream.left_out.total()) == (60, 1)


def test_garbage_before_every_record_is_lived_with(tmp_path, lines):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"null\n{line}" for line in lines))
    stream = Stream(log, SAID)
    assert (steps_in(stream), stream.left_out.total()) == (60, 60)


def test_garbage_at_the_start_and_another_form_later_are_lived_with(tmp_path, lines):
    log = tmp_path / "log.jsonl"
    flat = [json.loads(line) for line in lines[20:30]]
    flat = [{**record.pop("scheduled_requests"), **record, "worker_id": 7} for record in flat]
    log.write_text("starting\n" + "".join(lines[:20]))
    stream = Stream(log, SAID)
    assert steps_in(stream) == 20
    with log.open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in flat))
    assert steps_in(stream) == 10


def test_every_form_of_a_log_gives_the_same_steps(tmp_path, lines):
    text = "".join(lines)
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    frame = pd.DataFrame([json.loads(line) for line in lines])
    frame.to_parquet(tmp_path / "c.parquet")
    found = [next(Stream(path, SAID).poll()) for path in sorted(tmp_path.iterdir())]
    for other in found[1:]:
        assert other.measured_us.tolist() == found[0].measured_us.tolist()
        assert other.table.moments.tolist() == found[0].table.moments.tolist()
        assert other.at.tolist() == found[0].at.tolist()
        assert other.labels["node"].tolist() == found[0].labels["node"].tolist() == ["n1"] * 60


def test_a_url_gives_what_a_folder_gives(tmp_path, lines):
    fsspec = pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    store = fsspec.filesystem("memory")
    folder = tmp_path / "node=n7"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(lines))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[:20]).encode()))
    pd.DataFrame([json.loads(line) for line in lines[:7]]).to_parquet(folder / "c.parquet")
    store.put(str(folder), "/watched/node=n7", recursive=True)
    here, there = Stream(tmp_path, SAID), RemoteStream("memory://watched", SAID)
    ours, theirs = [*there.poll()], [*here.poll()]
    assert [len(rows) for rows in ours] == [60, 20, 7]
    for one, other in zip(ours, theirs, strict=True):
        assert one.measured_us.tolist() == other.measured_us.tolist()
        assert one.labels.astype(str).equals(other.labels.astype(str))
    assert not [*there.poll()]


def test_a_data_set_at_a_url_has_the_labels_of_its_keys(tmp_path, h100):
    pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    steps = traffic(200)
    rows = watched_rows(steps, h100)
    at = pd.date_range("2026-09-21T14:00:00Z", periods=200, freq="s").astype(str)
    folder = write_dataset(
        tmp_path / "fleet", steps.assign(latency_us=rows.measured_us, time=at), files=4
    )
    stream = RemoteStream(f"file://{folder / 'steps'}", Said())
    found = [*stream.poll()]
    assert sum(map(len, found)) == 200
    assert {node for one in found for node in one.labels["node"]} == {"0", "1"}
    assert sorted(np.concatenate([one.measured_us for one in found])) == sorted(rows.measured_us)
    again = RemoteStream(stream.source, Said())
    again.resume(stream.to_plain())
    assert not [*again.poll()]


def test_what_cannot_be_watched_at_a_url_is_refused_in_words():
    fsspec = pytest.importorskip("fsspec", reason="the extra cloud is not installed")
    with pytest.raises(CalibrateError, match=r"--follow s3://b: a file at a URL does not grow"):
        RemoteStream("s3://b", SAID, follow=True)
    fsspec.filesystem("memory").pipe_file("/bare/steps.csv", b"model\n")
    with pytest.raises(ImportFormatError, match=r"at a URL logs end in .jsonl, .ndjson"):
        next(RemoteStream("memory://bare", SAID).poll())


def test_a_folder_by_keys_says_node_engine_model_and_degree(tmp_path, lines):
    folder = tmp_path / "node=n7" / "engine=vllm%200.19" / f"model={MODEL}" / "tp=2"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(lines))
    (rows,) = Stream(tmp_path, Said()).poll()
    assert rows.table.tp.tolist() == [2] * 60
    labels = rows.labels.iloc[0].to_dict()
    assert labels["engine"] == "vllm 0.19"
    assert (labels["model"], labels["tp"]) == (MODEL, "2")


def test_tables_have_their_own_labels_and_times(tmp_path, h100):
    steps = traffic(40)
    rows = watched_rows(steps, h100)
    frame = steps.assign(
        latency_us=rows.measured_us,
        node=["a", "b"] * 20,
        time=pd.date_range("2026-09-21T14:00:00Z", periods=40, freq="s").astype(str),
    )
    frame.to_csv(tmp_path / "steps.csv", index=False)
    frame.to_parquet(tmp_path / "part.parquet")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    first, second = Stream(tmp_path, Said(engine="mine")).poll()
    for found in (first, second):
        assert found.labels["node"].tolist() == ["a", "b"] * 20
        assert found.labels["engine"].unique().tolist() == ["mine"]
        assert found.at[[0, -1]].tolist() == [1789999200.0, 1789999239.0]
        assert found.measured_us == pytest.approx(rows.measured_us)


def test_whole_files_are_read_once_and_again_when_they_are_written_anew(tmp_path, h100):
    steps = traffic(40).assign(latency_us=5000.0)
    path = tmp_path / "steps.csv"
    steps.to_csv(path, index=False)
    stream = Stream(tmp_path, Said())
    assert (steps_in(stream), steps_in(stream)) == (40, 0)
    steps.head(30).to_csv(path, index=False)
    assert steps_in(stream) == 30


def test_bad_rows_of_a_table_are_counted(tmp_path):
    steps = traffic(40).assign(latency_us=5000.0)
    steps.loc[3, "latency_us"] = -1.0
    steps.to_csv(tmp_path / "steps.csv", index=False)
    stream = Stream(tmp_path / "steps.csv", Said())
    assert steps_in(stream) == 39
    assert "latency_us = -1" in next(iter(stream.left_out))


def test_sources_that_are_none_are_refused_in_words(tmp_path, lines):
    with pytest.raises(ImportFormatError, match="no such file"):
        Stream(tmp_path / "none", SAID)
    with pytest.raises(ImportFormatError, match="no log or table"):
        steps_in(Stream(tmp_path, SAID))
    log = tmp_path / "log.jsonl"
    log.write_text("".join(lines))
    with pytest.raises(ImportFormatError, match="does not say the model: give --model"):
        steps_in(Stream(log, Said()))
    with pytest.raises(ImportFormatError, match="does not say the tp"):
        steps_in(Stream(log, Said(MODEL)))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UnreadableError, match="not a Parquet file"):
        steps_in(Stream(tmp_path / "broken.parquet", SAID))


def session_of(hardware, source, state=None, window=200):
    watch = Watch(
        latency_model("roofline-v1"), hardware, ("node", "engine", "model"), Settings(window, 0.01)
    )
    calibrated = Calibrated("c", hardware, None, None)
    session = Session(watch, Stream(source, SAID), calibrated, state, None)
    session.resume()
    return session, watch


@pytest.fixture
def drifting(h100):
    """The lines of a log that drifts after two thirds."""
    size = 6000
    steps = traffic(size, phases=(0.8, 0.2, 0.0))
    extra = noise(size, 0.04)
    extra[4000:] += np.log(1.06)
    return records(steps, h100, log_extra=extra).splitlines(keepends=True)


@pytest.mark.parametrize("cut", [500, 2500, 4200, 4400, 5500])
def test_a_restart_at_any_moment_finds_what_one_watch_finds(tmp_path, h100, drifting, cut):
    log, state = tmp_path / "log.jsonl", tmp_path / "state.npz"
    log.write_text("".join(drifting))
    whole, all_of_it = session_of(h100, log)
    whole.take_all()

    half = "".join(drifting[:cut]) + drifting[cut][:50]
    log.write_text(half)
    first, _ = session_of(h100, log, state)
    first.take_all()
    first.close()
    with log.open("a") as file:
        file.write(drifting[cut][50:] + "".join(drifting[cut + 1 :]))
    second, again = session_of(h100, log, state)
    second.take_all()

    assert again.steps == all_of_it.steps == 6000
    assert len(again.alarms) == len(all_of_it.alarms) > 0
    for a, b in zip(again.alarms, all_of_it.alarms, strict=True):
        assert (a.slice, a.since, a.at, a.log_change) == (b.slice, b.since, b.at, b.log_change)
    first_words, second_words = ([v.sentence for v in s.found.verdicts] for s in (whole, second))
    assert first_words == second_words


def test_a_restart_after_a_rotation_reads_the_rest_of_the_old_log(tmp_path, h100, drifting):
    log, state = tmp_path / "log.jsonl", tmp_path / "state.npz"
    log.write_text("".join(drifting[:1000]))
    first, _ = session_of(h100, log, state)
    first.take_all()
    first.close()
    with log.open("a") as file:
        file.write("".join(drifting[1000:1500]))
    log.rename(tmp_path / "log.jsonl.1")
    log.write_text("".join(drifting[1500:]))
    second, watch = session_of(h100, log, state)
    second.take_all()
    assert watch.steps == 6000


def test_a_log_that_is_gone_at_a_restart_is_said(tmp_path, h100, drifting):
    log, state = tmp_path / "log.jsonl", tmp_path / "state.npz"
    log.write_text("".join(drifting[:1000]))
    first, _ = session_of(h100, log, state)
    first.take_all()
    first.close()
    (tmp_path / "new").write_text("".join(drifting[2000:]))
    (tmp_path / "new").replace(log)
    second, watch = session_of(h100, log, state)
    second.take_all()
    assert watch.steps == 5000
    assert any("which is gone" in note for note in second.found.notes)


def test_a_state_of_another_watch_or_a_damaged_one_is_refused(tmp_path, h100, drifting):
    log, state = tmp_path / "log.jsonl", tmp_path / "state.npz"
    log.write_text("".join(drifting[:1000]))
    first, _ = session_of(h100, log, state)
    first.take_all()
    first.close()
    with pytest.raises(CalibrateError, match=r"another watch \(window differs\)"):
        session_of(h100, log, state, window=300)
    with pytest.raises(CalibrateError, match=r"another watch \(values differs\)"):
        session_of(h100.with_values({"BwEffConstant": 0.5}), log, state)
    content = state.read_bytes()
    header = content.replace(b"'shape': (", b"'shape':((")
    assert header != content
    method = content.index(b"PK\1\2") + 10
    odd = content[:method] + b"\x63" + content[method + 1 :]
    sums = re.search(
        rb"'shape': \(8, (\d\d+)\)", content
    )  # fewer sums than there are: the rest stays unread
    fewer = content[: sums.start(1)] + b"1" + content[sums.start(1) + 1 :]
    assert fewer != content
    for damaged in (content[:-200], b"", content.replace(b"meta", b"mete"), header, odd, fewer):
        state.write_bytes(damaged)
        with pytest.raises(CalibrateError, match="damaged"):
            session_of(h100, log, state)


def test_what_was_read_and_not_judged_is_not_saved(tmp_path, h100, drifting, monkeypatch):
    log, state = tmp_path / "log.jsonl", tmp_path / "state.npz"
    log.write_text("".join(drifting[:1000]))
    session, watch = session_of(h100, log, state)
    monkeypatch.setattr(watch, "take_in", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        session.take_all()
    session.close()
    assert not state.exists()
