"""What every log of the benchmark has in common: the calibration it is held against, the windows, the change."""

from calibrate.watch.slices import Settings
from calibrate.watch.watch import Watch
from sim.hardware import Hardware, gpu_specs
from sim.models.latency_model import LatencyModel
from sim.models.registry import latency_model

SLOWER = 1.03
BASELINE = 10_000
AFTER, WITHIN = 3000, 1000
HARDWARE = Hardware(
    "H100",
    {**gpu_specs()["H100"].values, "BwEffConstant": 0.72, "mfuPrefill": 0.65, "mfuDecode": 0.12},
)
LATENCY_MODEL = latency_model("roofline-v1")


def settings(window: int = 1000) -> Settings:
    """One false alarm in a hundred days."""
    return Settings(window, 0.01)


def new_watch(
    by: tuple[str, ...] = ("node", "engine", "model"),
    window: int = 1000,
    model: LatencyModel = LATENCY_MODEL,
) -> Watch:
    """A watch that has seen nothing."""
    return Watch(model, HARDWARE, by, settings(window))
