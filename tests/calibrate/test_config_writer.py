"""Writing a configuration: everything else in the file survives, whatever happens."""

import copy
import json
import math
import multiprocessing
import re
import stat
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibrate.records.config_writer import merged, replace_text, write_config
from calibrate.records.errors import ConfigError
from sim import HardwareError, load_hardware
from sim.configuration import configuration_keys, read_config
from sim.hardware import find_gpu
from tests.conftest import GUIDE_H100

GPUS = ("H100", "h100-sxm", "A100-SXM", "a100-80", "MI300X", "mi300x-oam", "L40S", "B200")
KEYS = configuration_keys()
KNOWN = {key.lower() for key in KEYS}

amounts = st.just(0.0) | st.floats(1e-30, 1e15)
numbers = amounts | st.integers(0, 10**15)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def spelled_keys(draw):
    key = draw(st.sampled_from(KEYS))
    return draw(st.sampled_from([key, key.lower(), key.upper(), key[0].swapcase() + key[1:]]))


known = st.dictionaries(spelled_keys(), numbers, max_size=8).filter(
    lambda b: len({k.lower() for k in b}) == len(b)
)
unknown = st.dictionaries(
    st.text(string.ascii_letters + "_ é", min_size=1, max_size=8).filter(
        lambda key: key.lower() not in KNOWN
    ),
    plain,
    max_size=4,
)
blocks = st.tuples(known, unknown, st.randoms(use_true_random=False)).map(
    lambda parts: dict(
        parts[2].sample([*{**parts[0], **parts[1]}.items()], len({**parts[0], **parts[1]}))
    )
)
configs = st.lists(st.sampled_from(GPUS), unique=True, max_size=5).flatmap(
    lambda names: st.fixed_dictionaries(dict.fromkeys(names, blocks))
)
changes = st.dictionaries(st.sampled_from(KEYS), amounts, max_size=8)


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(configs, st.sampled_from(GPUS), changes)
@pytest.mark.slow
def test_a_round_trip_changes_the_given_values_of_one_gpu_and_nothing_else(
    tmp_path, config, gpu, values
):
    path = tmp_path / "hardware_config.json"
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    backup = write_config(path, gpu, values)
    after = read_config(path)
    assert backup.read_text(encoding="utf-8") == before
    name = find_gpu(gpu, config) or gpu
    assert list(after) == [*config, *([] if name in config else [name])]
    assert {other: block for other, block in after.items() if other != name} == {
        other: block for other, block in config.items() if other != name
    }
    old, new = config.get(name, {}), after[name]
    assert list(new)[: len(old)] == list(old)
    assert {key.lower() for key in list(new)[len(old) :]} <= {key.lower() for key in values}
    changed = {key.lower(): value for key, value in values.items()}
    for key, value in old.items():
        expected = changed.get(key.lower(), value)
        assert new[key] == expected
        assert type(new[key]) is type(value) or value != expected
    assert {
        key: value for key, value in load_hardware(path, gpu).values.items() if key in values
    } == values


@settings(deadline=None)
@given(configs, st.sampled_from(GPUS), changes)
def test_merging_leaves_the_given_configuration_alone(config, gpu, values):
    before = copy.deepcopy(config)
    merged(config, gpu, values)
    assert config == before


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes.filter(bool))
def test_every_float_comes_back_to_the_last_bit(tmp_path, values):
    path = tmp_path / "new.json"
    path.unlink(missing_ok=True)
    assert write_config(path, "H100", values) is None
    assert load_hardware(path, "H100").values == values


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "hardware_config.json"
    path.write_text(
        json.dumps({"H100": GUIDE_H100, "A100-SXM": {"MfuPrefill": 0.6, "note": "ours"}}, indent=4)
        + "\n"
    )
    return path


def files(folder):
    """Every file but the empty lock file, which stays on purpose: removing it would break the lock."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


@pytest.mark.parametrize("alias", ["A100-80", "a100", "a100-sxm"])
def test_an_alias_finds_the_block_and_the_spelling_that_are_there(path, alias):
    write_config(path, alias, {"mfuPrefill": 0.5})
    assert read_config(path)["A100-SXM"] == {"MfuPrefill": 0.5, "note": "ours"}


def test_values_that_are_there_already_leave_the_file_byte_identical(path):
    before = path.read_bytes()
    write_config(path, "H100", GUIDE_H100)
    assert path.read_bytes() == before


@pytest.mark.parametrize("indent", [2, 4, 8])
def test_the_indent_of_the_file_stays(path, indent):
    path.write_text(json.dumps(read_config(path), indent=indent) + "\n")
    lines = path.read_text().splitlines()
    write_config(path, "H100", {"mfuPrefill": 0.123})
    changed = [(a, b) for a, b in zip(lines, path.read_text().splitlines(), strict=True) if a != b]
    assert changed == [
        (f'{" " * 2 * indent}"mfuPrefill": 0.65,', f'{" " * 2 * indent}"mfuPrefill": 0.123,')
    ]


def test_a_file_in_another_encoding_keeps_its_indent(path):
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2), encoding="utf-16")
    write_config(path, "H100", {"mfuDecode": 0.2})
    assert path.read_text(encoding="utf-8").startswith('{\n  "')


def test_a_new_gpu_is_added_at_the_end(path):
    write_config(path, "B200", {"TFlopsPeak": 2250.0})
    assert list(read_config(path)) == ["H100", "A100-SXM", "B200"]
    assert read_config(path)["B200"] == {"TFlopsPeak": 2250.0}


def test_a_missing_file_and_its_folder_are_made_and_have_no_backup(tmp_path):
    path = tmp_path / "deep" / "er" / "config.json"
    assert write_config(path, "H100", {"mfuPrefill": 0.5}) is None
    assert read_config(path) == {"H100": {"mfuPrefill": 0.5}}
    assert files(path.parent) == ["config.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_first_backup_stays_and_what_is_replaced_later_is_the_previous(path):
    first = path.read_bytes()
    backup = write_config(path, "H100", {"mfuPrefill": 0.5})
    assert backup == path.with_name("hardware_config.json.bak")
    second = path.read_bytes()
    later = write_config(path, "H100", {"mfuPrefill": 0.4})
    assert later == path.with_name("hardware_config.json.previous")
    assert (backup.read_bytes(), later.read_bytes()) == (first, second)


def test_many_writes_leave_two_backups(path):
    first = path.read_bytes()
    for value in (0.5, 0.4, 0.3):
        write_config(path, "H100", {"mfuPrefill": value})
    names = ["hardware_config.json", "hardware_config.json.bak", "hardware_config.json.previous"]
    assert files(path.parent) == names
    assert path.with_name(names[1]).read_bytes() == first
    assert read_config(path.with_name(names[2]))["H100"]["mfuPrefill"] == 0.4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(path, value):
    before = path.read_bytes()
    with pytest.raises(
        ConfigError, match=r"hardware_config\.json: refused to write .*mfuPrefill.*not finite"
    ):
        write_config(path, "H100", {"mfuDecode": 0.1, "mfuPrefill": value})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_of_the_file_stays(path, mode):
    path.chmod(mode)
    write_config(path, "H100", {"mfuPrefill": 0.5})
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_a_link_and_its_target_is_written(path, tmp_path):
    link = tmp_path / "elsewhere" / "link.json"
    link.parent.mkdir()
    link.symlink_to(path)
    write_config(link, "H100", {"mfuPrefill": 0.5})
    assert link.is_symlink()
    assert read_config(path)["H100"]["mfuPrefill"] == 0.5


def test_a_read_only_file_is_left_alone_and_so_is_its_folder(path):
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="is read-only; make it writable or give another"):
        write_config(path, "H100", {"mfuPrefill": 0.5})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"H100": {"a": 1, "a": 2}}', '{"H100": {"a": NaN}}', '{"H100": {"a": 1e999}}'],
)
def test_a_file_that_is_no_configuration_is_never_written_over(path, content):
    path.write_text(content)
    with pytest.raises(HardwareError, match=re.escape(str(path))):
        write_config(path, "H100", {"mfuPrefill": 0.5})
    assert path.read_text() == content
    assert files(path.parent) == [path.name]


@pytest.mark.parametrize("block", [[], 3, "text", None])
def test_a_block_that_is_no_object_is_never_written_over(path, block):
    path.write_text(json.dumps({"H100": block}))
    before = path.read_text()
    with pytest.raises(HardwareError, match="the block of GPU H100 must be a JSON object"):
        write_config(path, "H100", {"mfuPrefill": 0.5})
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["../../etc", "a/b", ""])
def test_a_name_with_a_path_in_it_is_refused(path, name):
    with pytest.raises(HardwareError, match="is not a GPU name"):
        write_config(path, name, {"mfuPrefill": 0.5})


def write_many(path, gpu, rounds, barrier):
    barrier.wait(30)
    for i in range(rounds):
        write_config(path, gpu, {"mfuPrefill": float(i), "TOverheadMicros": 7.0})


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.slow
def test_processes_that_write_different_gpus_at_once_lose_nothing(path, processes):
    context = multiprocessing.get_context("spawn")
    barrier, rounds = context.Barrier(processes), 12
    workers = [
        context.Process(target=write_many, args=(path, f"GPU{i}", rounds, barrier))
        for i in range(processes)
    ]
    before = read_config(path)
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * processes
    expected = {
        f"GPU{i}": {"mfuPrefill": rounds - 1.0, "TOverheadMicros": 7.0} for i in range(processes)
    }
    assert read_config(path) == {**before, **expected}
    assert files(path.parent) == [
        *("hardware_config.json", "hardware_config.json.bak"),
        "hardware_config.json.previous",
    ]


def test_an_interrupted_text_leaves_the_old_one_and_no_other_file(path):
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "half of it \ud800")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_engines_stand_beside_one_another_and_are_read_back(tmp_path):
    path = tmp_path / "hardware_config.json"
    write_config(path, "H100", GUIDE_H100, {"vllm 0.11": {"apiMicros": 1000.0}})
    write_config(path, "H100", {"mfuPrefill": 0.5}, {"sglang": {"apiMicros": 9.0}})
    write_config(path, "H100", {}, {"vllm 0.11": {"layerMicros": 40.0}})
    known = load_hardware(path)
    assert known.engines == {"vllm 0.11": {"layerMicros": 40.0}, "sglang": {"apiMicros": 9.0}}
    assert "apiMicros" not in known.values
    assert known.with_engine("SGLang").values["apiMicros"] == 9.0
    assert known.with_engine("vllm").values["layerMicros"] == 40.0
    assert known.with_engine("tensorrt-llm") == known


def test_an_engine_of_several_versions_must_be_named_whole(tmp_path):
    engines = {"vllm 0.11": {"apiMicros": 1.0}, "vllm 0.12": {"apiMicros": 2.0}}
    path = tmp_path / "hardware_config.json"
    write_config(path, "H100", GUIDE_H100, engines)
    known = load_hardware(path)
    assert known.with_engine("vllm 0.12").values["apiMicros"] == 2.0
    with pytest.raises(HardwareError, match=r"several engines 'vllm': name one of vllm 0.11, vllm"):
        known.with_engine("vllm")


@pytest.mark.parametrize(
    ("engines", "message"),
    [
        ([1], "GPU H100: engines must be a JSON object of engines"),
        ({"vllm": 3}, "the block of GPU H100, engine vllm must be a JSON object, got 3"),
        ({"vllm": {"apiMicros": -1}}, "GPU H100, engine vllm: apiMicros must not be negative"),
        ({"vllm": {"models": "qwen3-32b"}}, "GPU H100, engine vllm: models must be a JSON list of"),
    ],
)
def test_engines_that_are_none_are_named(tmp_path, engines, message):
    path = tmp_path / "hardware_config.json"
    path.write_text(json.dumps({"H100": {**GUIDE_H100, "engines": engines}}), encoding="utf-8")
    with pytest.raises(HardwareError, match=message):
        load_hardware(path)
    before = path.read_bytes()
    with pytest.raises(HardwareError, match=message):
        write_config(path, "H100", {"mfuPrefill": 0.5})
    assert path.read_bytes() == before
