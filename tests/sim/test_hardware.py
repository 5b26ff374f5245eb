"""Hardware configurations and the registry of GPU specifications."""

import json

import pytest

from sim import HardwareError, load_hardware
from sim.configuration import configuration_keys, read_config, read_transferred
from sim.hardware import canonical_gpu, check_gpu_name, find_gpu, gpu_specs, nearest_gpu
from sim.models.roofline_v1.model import RooflineV1
from tests.conftest import GUIDE_H100, ROOT

FOLDER = ROOT / "hardware_configs"
BLOCK = {"TFlopsPeak": 100.0, "BwPeakTBs": 2.0}

KEYS = configuration_keys()


def config_file(tmp_path, text):
    path = tmp_path / "hardware_config.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


@pytest.mark.parametrize("gpu", ["H100", "A100-SXM"])
def test_the_main_configuration_has_the_seventeen_keys_of_the_guide(gpu):
    block = read_config(FOLDER / "hardware_config.json")[gpu]
    numbers = [name for name, value in block.items() if isinstance(value, int | float)]
    assert set(numbers) == set(GUIDE_H100)  # a fit adds what it knows of engines, as a block
    assert len(numbers) == 17
    hardware = load_hardware(FOLDER / "hardware_config.json", gpu)
    spec = gpu_specs()[gpu].values
    assert hardware.values["TFlopsPeak"] == pytest.approx(spec["TFlopsPeak"], rel=0.01)
    assert hardware.values["BwPeakTBs"] == pytest.approx(spec["BwPeakTBs"], rel=0.01)
    assert all(value >= 0 for value in RooflineV1().parameters(hardware).values())


def test_the_v2_configuration_has_six_keys_in_another_case():
    block = read_config(FOLDER / "hardware_config_v2.json")["H100"]
    assert list(block) == [
        "TFlopsPeak",
        "BwPeakTBs",
        "TOverheadMicros",
        "PrefillOverheadMicros",
        "MixedPrefillOverheadMicros",
        "AllReduceLatency",
    ]
    values = load_hardware(FOLDER / "hardware_config_v2.json", "H100").values
    assert set(values) == {
        "TFlopsPeak",
        "BwPeakTBs",
        "TOverheadMicros",
        "prefillOverheadMicros",
        "mixedPrefillOverheadMicros",
        "allReduceLatency",
    }
    assert values["prefillOverheadMicros"] == block["PrefillOverheadMicros"]


def test_the_minimal_configuration_has_the_peaks_only_and_says_what_roofline_v1_lacks():
    hardware = load_hardware(FOLDER / "hardware_config_minimal.json", "H100")
    assert set(hardware.values) == {"TFlopsPeak", "BwPeakTBs"}
    with pytest.raises(
        HardwareError, match=r"BwEffConstant must be a valid positive number, got 0 .*GPU H100"
    ):
        RooflineV1().parameters(hardware)


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.swapcase])
def test_keys_are_matched_without_regard_to_case(spell):
    assert (
        load_hardware(
            {"H100": {spell(key): value for key, value in GUIDE_H100.items()}}, "h100"
        ).values
        == GUIDE_H100
    )


def test_the_canonical_keys_are_distinct_but_for_case():
    assert len({key.lower() for key in KEYS}) == len(KEYS)


def test_a_block_alone_is_a_configuration():
    assert load_hardware(BLOCK).values == BLOCK
    assert load_hardware(BLOCK, "H100").gpu == "H100"


def test_unknown_keys_are_passed_over():
    assert load_hardware({"H100": {**BLOCK, "colour": "green", "nested": {"a": 1}}}).values == BLOCK


@pytest.mark.parametrize(
    "alias", ["A100-80", "a100-80", "A100", "A100-SXM", "a100-sxm4-80gb", "NVIDIA A100-SXM4-80GB"]
)
def test_an_alias_finds_the_block_under_the_registry_name(alias):
    assert load_hardware({"H100": BLOCK, "A100-SXM": BLOCK}, alias).gpu == "A100-SXM"


def test_a_name_finds_the_block_under_an_alias():
    assert load_hardware({"H100": BLOCK, "a100-80": BLOCK}, "A100-SXM").gpu == "a100-80"


def test_the_same_name_goes_before_an_alias():
    assert find_gpu("A100-80", ["A100-SXM", "A100-80"]) == "A100-80"


def test_a_gpu_that_the_registry_lacks_keeps_its_name():
    assert canonical_gpu("V100") == "V100"
    assert find_gpu("v100", ["H100", "V100"]) == "V100"
    assert find_gpu("V100", ["H100"]) is None


def test_an_unknown_gpu_is_named_with_the_file_what_it_has_and_the_nearest(tmp_path):
    path = config_file(tmp_path, {"H100": BLOCK, "L40S": BLOCK})
    with pytest.raises(
        HardwareError, match=r"hardware_config\.json: no GPU 'H1000' \(it has H100, L40S\).*'H100'"
    ):
        load_hardware(path, "H1000")


def test_several_gpus_need_a_choice(tmp_path):
    with pytest.raises(HardwareError, match=r"say which GPU \(it has H100, L40S\)"):
        load_hardware({"H100": BLOCK, "L40S": BLOCK})
    with pytest.raises(HardwareError, match=r"say which GPU \(it has none\)"):
        load_hardware(config_file(tmp_path, {}))


@pytest.mark.parametrize("value", ["1", True, None, [1], float("nan"), float("inf"), 10**400])
def test_a_value_that_is_no_number_is_refused(value):
    with pytest.raises(HardwareError, match="GPU H100: mfuprefill must be a valid number, got"):
        load_hardware({"H100": {**BLOCK, "mfuprefill": value}})


@pytest.mark.parametrize("value", [1e31, 1e-31, -1e300])
def test_a_value_whose_products_would_be_no_numbers_is_refused(value):
    with pytest.raises(HardwareError, match=r"mfuPrefill must be from 1e-30 to 1e\+30, got"):
        load_hardware({"H100": {**BLOCK, "mfuPrefill": value}})
    assert load_hardware({"H100": {**BLOCK, "mfuPrefill": 0.0}}).values["mfuPrefill"] == 0.0


def test_a_negative_value_is_refused():
    with pytest.raises(
        HardwareError, match=r"GPU H100: mfuPrefill must not be negative, got -0\.1"
    ):
        load_hardware({"H100": {**BLOCK, "mfuPrefill": -0.1}})


def test_a_key_twice_in_different_case_is_refused():
    with pytest.raises(HardwareError, match="GPU H100 has mfuPrefill twice"):
        load_hardware({"H100": {"mfuPrefill": 1, "MFUPREFILL": 1}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable JSON"),
        ("{", "not readable JSON"),
        ("[" * 100_000, "is nested more than 64 levels deep"),
        ("[]", "must hold a JSON object"),
        ("3", "must hold a JSON object"),
        ('{"H100": {"a": 1, "a": 2}}', "the key 'a' stands there twice"),
        ('{"H100": {}, "H100": {}}', "the key 'H100' stands there twice"),
        ('{"H100": {}, "h100": {}}', "has GPU h100 twice"),
        ('{"H100": {"a": NaN}}', "NaN is not a number"),
        ('{"H100": {"a": -Infinity}}', "-Infinity is not a number"),
        ('{"H100": {"a": 1e999}}', "1e999 is not a number"),
        ('{"H100": {"a": ' + "9" * 400 + "}}", "H100.a is too large"),
        ('{"H100": {"a": ' + "9" * 5000 + "}}", "a number is too large"),
    ],
)
def test_a_malformed_file_is_named_with_what_is_wrong(tmp_path, text, message):
    path = config_file(tmp_path, text)
    with pytest.raises(HardwareError) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}:")
    assert message in str(error.value)
    assert len(str(error.value)) < 400


def test_a_missing_file_a_folder_and_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(HardwareError, match="no such hardware configuration file"):
        read_config(tmp_path / "none.json")
    with pytest.raises(HardwareError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{\x00}")
    with pytest.raises(HardwareError, match="is not UTF-16"):
        read_config(tmp_path / "binary.json")


@pytest.mark.parametrize("block", [3, "text", [1], None])
def test_a_block_that_is_no_object_is_refused(block):
    with pytest.raises(HardwareError, match="the block of GPU H100 must be a JSON object"):
        load_hardware({"H100": block, "L40S": BLOCK}, "H100")


@pytest.mark.parametrize(
    "name",
    ["", "..", "../../etc", "H100/../x", "a\\b", "/etc", ".hidden", "a b", "a\n", "x" * 65, "H..1"],
)
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(HardwareError, match="is not a GPU name"):
        check_gpu_name(name)


@pytest.mark.parametrize(
    "name",
    ["H100", "A100-SXM", "MI300X", "RTX-6000+", "h100_sxm", "GH200.96", "NVIDIA H100 80GB HBM3"],
)
def test_a_usual_name_is_a_gpu_name(name):
    assert check_gpu_name(name) == name


DENSE = {
    "H100": (989.5, 3.35, 1979),
    "H100-PCIe": (756.5, 2.0, 1513),
    "H100-NVL": (835.5, 3.9, 1670.5),
    "A100-SXM": (312, 2.039, None),
    "A100-SXM-40GB": (312, 1.555, None),
    "A100-PCIe-80GB": (312, 1.935, None),
    "A100-PCIe-40GB": (312, 1.555, None),
    "H200": (989.5, 4.8, 1979),
    "H200-NVL": (835.5, 4.8, 1670.5),
    "L40S": (362.05, 0.864, 733),
    "B200": (2250, 8.0, 4500),
    "B300": (2250, 8.0, 4500),
    "GB200": (2500, 8.0, 5000),
    "GB300": (2500, 8.0, 5000),
    "GH200": (989.5, 4.0, 1979),
    "GH200-144GB": (989.5, 4.9, 1979),
    "H20": (148, 4.0, 296),
    "H800": (989.5, 3.35, 1979),
    "A10": (125, 0.6, None),
    "A30": (165, 0.933, None),
    "A40": (149.7, 0.696, None),
    "L4": (121, 0.3, 242.5),
    "L40": (181.05, 0.864, 362),
    "RTX-4090": (165.2, 1.008, 660.6),
    "RTX-5090": (209.5, 1.792, 838),
    "RTX-6000-Ada": (364.2, 0.96, 728.5),
    "RTX-PRO-6000": (503.8, 1.792, 1007.6),
    "RTX-PRO-6000-Server": (500, 1.597, 1000),
    "MI210": (181, 1.6, None),
    "MI300X": (1307.4, 5.3, 2614.9),
    "MI325X": (1307.4, 6.0, 2614.9),
    "MI350X": (2306.9, 8.0, 4613.7),
    "MI355X": (2516.6, 8.0, 5033.2),
    "Gaudi-3": (1835, 3.7, 1835),
    "TPU-v5e": (197, 0.819, None),
    "TPU-v6e": (918, 1.638, None),
}


@pytest.mark.parametrize("gpu", DENSE)
def test_the_registry_has_dense_peaks_and_says_where_from(gpu):
    spec = gpu_specs()[gpu]
    peak, bandwidth, eight_bit = DENSE[gpu]
    assert (spec.values["TFlopsPeak"], spec.values["BwPeakTBs"]) == (peak, bandwidth)
    assert spec.values.get("TFlopsFP8") == eight_bit
    assert spec.values["MemoryGiB"] > 0
    assert set(spec.values) <= set(KEYS)
    assert "datasheet" in spec.source
    assert "dense" in spec.source


def test_every_gpu_of_the_registry_is_held_to_its_figures():
    assert set(DENSE) == set(gpu_specs())


@pytest.mark.parametrize(
    ("printed", "gpu"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100-SXM-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-PCIe-40GB"),
        ("NVIDIA B300 SXM6 AC", "B300"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GH200 144G HBM3e", "GH200-144GB"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000-Server"),
        ("AMD Instinct MI300X", "MI300X"),
        ("TPU v6 lite", "TPU-v6e"),
    ],
)
def test_the_name_that_a_driver_prints_is_the_gpu(printed, gpu):
    assert canonical_gpu(printed) == gpu
    assert check_gpu_name(printed) == printed


NEIGHBOURS = [
    ("H20", "H200"),
    ("B200", "B300"),
    ("B200", "GB200"),
    ("L4", "L40"),
    ("L40", "L40S"),
    ("A10", "A100-SXM"),
    ("A100", "H100"),
    ("H100", "H800"),
    ("MI300X", "MI325X"),
    ("TPU-v5e", "TPU-v6e"),
    ("V100", "H100"),
    ("A10G", "A10"),
    ("MI300A", "MI300X"),
]


@pytest.mark.parametrize(("gpu", "other"), [*NEIGHBOURS, *((b, a) for a, b in NEIGHBOURS)])
def test_another_chip_is_never_offered_as_the_right_spelling(gpu, other):
    assert nearest_gpu(gpu, [other]) == ""
    with pytest.raises(HardwareError, match=rf"no GPU '{gpu}' \(it has {other}\)$"):
        load_hardware({other: BLOCK}, gpu)


def test_no_gpu_of_the_registry_is_offered_another():
    assert all(nearest_gpu(name, gpu_specs()) == "" for name in gpu_specs())


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("H10", "H100"), ("H1000", "H100"), ("h-100", "H100"), ("a100sxm", "A100-SXM")],
)
def test_a_slip_in_zeros_or_separators_is_answered(slip, meant):
    assert nearest_gpu(slip, ["L40S", meant]) == f"; did you mean '{meant}'?"


def test_no_alias_means_two_gpus():
    names = [name.lower() for spec in gpu_specs().values() for name in {spec.name, *spec.aliases}]
    assert len(set(names)) == len(names)
    assert all(
        canonical_gpu(alias.upper()) == spec.name
        for spec in gpu_specs().values()
        for alias in spec.aliases
    )


def test_with_values_leaves_the_original_alone(h100):
    changed = h100.with_values({"mfuPrefill": 0.3, "MemoryGiB": 80})
    assert (changed.values["mfuPrefill"], changed.values["MemoryGiB"]) == (0.3, 80)
    assert h100.values == GUIDE_H100


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_positive_refuses_what_is_not(h100, value):
    with pytest.raises(
        HardwareError, match=f"BwEffConstant must be a valid positive number, got {value:g}"
    ):
        h100.with_values({"BwEffConstant": value}).positive("BwEffConstant")


def test_intervals_of_other_gpus_are_read_where_a_block_has_some():
    ends = {"layerMicros": [5, 60.0]}
    assert read_transferred({"transferred": {"intervals": ends}}, "X", "f") == {
        "layerMicros": (5.0, 60.0)
    }
    assert read_transferred({}, "X", "f") == {}


@pytest.mark.parametrize(
    "intervals",
    [{"warp": [1, 2]}, {"layerMicros": [2, 1]}, {"layerMicros": [1]}, {"layerMicros": ["1", 2]}, 3],
)
def test_a_wrong_interval_of_other_gpus_is_told_in_words(intervals):
    with pytest.raises(HardwareError, match="f: GPU X: transferred: "):
        read_transferred({"transferred": {"intervals": intervals}}, "X", "f")
