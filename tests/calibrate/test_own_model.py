"""A latency model from outside the package: registered, it is fitted, reported, predicted, planned and simulated."""

import json

import numpy as np
import pytest

from calibrate import fit
from calibrate.campaign.campaign import load_campaign
from calibrate.job.publish import publish
from calibrate.planning.plan import plan
from sim import LatencyModel, Parameter, SimError, StepTable, load_hardware, register, simulate
from sim.models import registry
from sim.serving.engine import EngineLimits
from sim.serving.lengths import Fixed
from sim.serving.workload import Poisson, Workload
from sim.steps.work import minimum_work
from tests.synthetic import synthetic_steps

pytestmark = pytest.mark.usefixtures("one_plot")

TRUTH = {"toyBwShare": 0.6, "toyStepMicros": 400.0}


class Toy(LatencyModel):
    """Every byte that a step must move at a share of the peak bandwidth, and a time for each step."""

    name = "toy"
    parameter_set = (
        Parameter(
            name="toyBwShare",
            unit="–",
            lower=0.01,
            upper=1.0,
            guide=(0.4, 0.9),
            stage="bandwidth",
            meaning="share of the peak memory bandwidth",
            seen_in="any step",
            default=0.7,
        ),
        Parameter(
            name="toyStepMicros",
            unit="µs/step",
            lower=0.0,
            upper=1e5,
            guide=(50.0, 1000.0),
            stage="bandwidth",
            meaning="time of a step",
            seen_in="short steps",
            default=100.0,
            is_tuned=True,
        ),
    )

    def predict_us(self, table, hardware):
        values = self.parameters(hardware)
        return self._memory_us(table, values) + values["toyStepMicros"]

    def predict_with_jacobian_us(self, table, hardware, names):
        values = self.parameters(hardware)
        memory = self._memory_us(table, values)
        slopes = {
            "toyBwShare": -memory / values["toyBwShare"],
            "toyStepMicros": np.ones(len(table)),
        }
        jacobian = np.array([slopes[name] for name in names]).reshape(len(names), len(table))
        return memory + values["toyStepMicros"], jacobian.T

    def regimes(self, table, hardware):
        values = self.parameters(hardware)
        return np.where(self._memory_us(table, values) > values["toyStepMicros"], "memory", "host")

    def _memory_us(self, table, values):
        work = table.memo(self.name, minimum_work)
        return work.bytes / 1e6 / table.tp / (values["BwPeakTBs"] * values["toyBwShare"])


@pytest.fixture
def toy():
    """The model, registered for one test."""
    models = dict(registry.LATENCY_MODELS)
    parameters = dict(registry.PARAMETERS)
    register(Toy)
    yield Toy()
    for known, before in ((registry.LATENCY_MODELS, models), (registry.PARAMETERS, parameters)):
        known.clear()
        known.update(before)


@pytest.fixture
def truth():
    return load_hardware({"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, **TRUTH}})


@pytest.fixture
def campaign(toy, truth, tmp_path):
    folder = tmp_path / "ground_truth/H100/toy"
    folder.mkdir(parents=True)
    synthetic_steps(truth, 90, noise=0.01, model=toy).to_csv(folder / "steps.csv", index=False)
    return load_campaign(folder, "H100")


def test_it_is_fitted_reported_and_written(toy, campaign, truth, tmp_path):
    config = tmp_path / "hardware_config.json"
    config.write_text(json.dumps({"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}))
    start = load_hardware(config, "H100")
    result = fit([campaign], start, latency_model="toy", starts=4)
    assert result.values == pytest.approx(TRUTH, rel=0.03)
    assert all(p.status == "fitted" for p in result.parameters)
    published = publish(result, start, config, tmp_path / "reports", force=False, dry_run=False)
    assert "toyBwShare" in published.report.read_text(encoding="utf-8")
    written = load_hardware(config, "H100")
    assert {name: written.values[name] for name in TRUTH} == pytest.approx(result.values)


def test_what_its_data_cannot_see_is_said_in_its_own_words(toy, campaign, truth):
    held = fit([campaign], truth, latency_model="toy", starts=1, fix={"toyStepMicros": None})
    assert {p.name: p.status for p in held.parameters} == {
        "toyBwShare": "fitted",
        "toyStepMicros": "held",
    }


def test_it_predicts_plans_and_simulates(toy, campaign, truth):
    table = StepTable.from_columns(
        {"model": ["llama-3.1-8b"], "tp": [1], "num_decode_requests": [1]}
    )
    bytes_ = minimum_work(table).bytes[0]
    assert toy.predict_us(table, truth)[0] == pytest.approx(bytes_ / 1e6 / (3.35 * 0.6) + 400.0)
    made = plan([campaign], truth, model="toy", budget=4)
    assert {p.name: p.status for p in made.parameters} == dict.fromkeys(TRUTH, "free")
    assert len(made.points) == 4
    load = Workload(num_requests=20, load=Poisson(2.0), prompt=Fixed(128), output=Fixed(16))
    served = simulate(load, EngineLimits(), toy, table.architectures[0], truth)
    assert (served.e2e_us > 16 * 400.0).all()


def test_a_name_that_is_taken_is_refused(toy):
    class Again(Toy):
        pass

    with pytest.raises(SimError, match="there is a latency model 'toy' already"):
        register(Again)

    class Clash(Toy):
        name = "clash"
        parameter_set = (
            Parameter("gemmMfu", "–", 0.5, 2.0, (0.6, 0.9), "gemm", "another share", "any step"),
        )

    with pytest.raises(
        SimError, match=r"parameter gemmMfu of clash has the unit – and the bounds 0\.5 to 2"
    ):
        register(Clash)
