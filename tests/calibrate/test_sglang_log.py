"""SGLang's log: which of its lines are decode steps, how long they took, and what is refused."""

import gzip

import pytest

from calibrate.campaign.campaign import load_campaign
from calibrate.importers import read_source, write_campaign
from calibrate.records.errors import ImportFormatError

ARGUMENTS = (
    "[2026-01-01 00:00:00] server_args=ServerArgs(model_path='Qwen/Qwen3-8B', dtype='auto', quantization=None, "
    "tp_size=2, pp_size=1, dp_size=1, speculative_algorithm=None, decode_log_interval=1)"
)
PREFILL = "[2026-01-01 00:00:01 TP0] Prefill batch, #new-seq: 2, #new-token: 90, #cached-token: 0, #running-req: 0"


def decode(requests, cached, tokens_per_s, graph=True, tag="TP0"):
    return (
        f"[2026-01-01 00:00:01 {tag}] Decode batch, #running-req: {requests}, #token: {cached}, token usage: 0.01, "
        f"cuda graph: {graph}, gen throughput (token/s): {tokens_per_s:.2f}, #queue-req: 0"
    )


LINES = [
    PREFILL,
    decode(2, 92, 0.0),
    decode(2, 94, 250.0),
    decode(2, 96, 200.0, graph=False),
    PREFILL,
    decode(4, 190, 12.0),
    decode(4, 194, 320.0),
]


def log(tmp_path, *lines, name="server.log", arguments=ARGUMENTS):
    path = tmp_path / name
    path.write_text("\n".join([arguments, "noise without a batch", *lines]))
    return path


def imported(path, **said):
    return read_source("sglang-log", str(path), "H100", said)


def refusal(path, **said):
    with pytest.raises(ImportFormatError) as error:
        imported(path, **said)
    return str(error.value)


def test_a_decode_line_after_a_decode_line_is_a_step(tmp_path):
    steps = imported(log(tmp_path, *LINES)).tables["steps"]
    assert steps["latency_us"].tolist() == [8_000, 10_000, 12_500], "requests over throughput"
    assert steps["num_decode_requests"].tolist() == [2, 2, 4]
    assert steps["sum_decode_kv_tokens"].tolist() == [94, 96, 194]
    assert steps["execution"].tolist() == ["graph", "eager", "graph"]
    assert set(steps["num_prefill_requests"]) == {0}
    assert set(zip(steps["model"], steps["tp"], strict=True)) == {("qwen3-8b", 2)}


def test_a_compressed_log_is_read_as_it_is_written(tmp_path):
    path = log(tmp_path, *LINES)
    packed = tmp_path / "packed/server.log.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    steps = imported(packed.parent).tables["steps"]
    assert steps["latency_us"].tolist() == imported(path).tables["steps"]["latency_us"].tolist()


def test_lines_that_span_a_prefill_are_counted(tmp_path):
    (words,) = imported(log(tmp_path, *LINES)).left_out
    assert "server.log: 2 Decode lines that follow a Prefill line" in words


def test_each_start_of_a_server_is_a_run(tmp_path):
    path = log(tmp_path, *LINES, ARGUMENTS.replace("tp_size=2", "tp_size=4"), *LINES)
    steps = imported(path).tables["steps"]
    assert steps["run_id"].tolist() == ["server-1"] * 3 + ["server-2"] * 3
    assert steps["tp"].tolist() == [2] * 3 + [4] * 3


def test_a_folder_of_logs_is_read(tmp_path):
    log(tmp_path, *LINES, name="a.log")
    log(tmp_path, *LINES, name="b.log")
    assert imported(tmp_path).tables["steps"]["run_id"].unique().tolist() == ["a", "b"]


def test_a_log_without_its_start_is_told_by_how_its_requests_grow(tmp_path):
    path = log(tmp_path, *LINES, arguments="")
    assert "give --model and --tp" in refusal(path)
    assert len(imported(path, model="qwen3-8b", tp=2).tables["steps"]) == 3
    slow = log(tmp_path, PREFILL, decode(2, 92, 0.0), decode(2, 172, 250.0), arguments="")
    assert "requests grow by 40 tokens from one Decode line to the next, not 1" in refusal(slow)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("interval=1", "interval=40", "server.log: decode_log_interval is 40: a line is the mean"),
        ("dp_size=1", "dp_size=4", "its server had 4 data-parallel replicas"),
        ("pp_size=1", "pp_size=2", "its server had 2 pipeline stages"),
        ("algorithm=None", "algorithm='EAGLE'", "the server decoded speculatively"),
        ("tp_size=2", "tp_size='two'", "tp_size must be a whole number, got 'two'"),
    ],
)
def test_a_server_whose_lines_are_no_steps_is_refused(tmp_path, old, new, words):
    assert words in refusal(log(tmp_path, *LINES, arguments=ARGUMENTS.replace(old, new)))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([PREFILL], "no Decode line follows a Decode line"),
        ([*LINES, decode(2, 99, 9.0)[:60]], "server.log:10: a Decode line without #token"),
        (
            [*LINES, decode(2, 99, 9.0).replace("(token/s): ", "(token/s): .")],
            "server.log:10: a Decode line without gen throughput",
        ),
        ([*LINES, decode(2, 99, 9.0, tag="TP1")], "lines of several ranks (TP0, TP1)"),
        ([*LINES, decode(2, 9, 9.0) + ", accept len: 2"], "server.log:10: the server decoded spec"),
    ],
)
def test_a_log_that_holds_no_steps_is_refused_with_its_line(tmp_path, lines, words):
    assert words in refusal(log(tmp_path, *lines))


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "none.log: cannot be read: No such file" in refusal(tmp_path / "none.log")
    assert "no log in it; logs end in .log" in refusal(tmp_path)


def test_the_campaign_is_read_back(tmp_path):
    write_campaign(imported(log(tmp_path, *LINES)), tmp_path / "H100/log")
    campaign = load_campaign(tmp_path / "H100/log", "H100")
    assert len(campaign.steps) == 3
    assert not [problem for problem in campaign.problems if problem.severity == "error"]
