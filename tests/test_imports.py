"""The arrows of the architecture: sim never imports calibrate, one file imports lmfit, help stays light."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SIM_MAY_IMPORT = {"sim", "numpy", "numba"}
ONLY_HERE = {
    "lmfit": {"calibrate/fitting/solver.py"},
    "numba": {"sim/models/compiled.py", "sim/serving/step_loop.py"},
    "aiconfigurator_core": set(),
    "matplotlib": {"calibrate/report"},
    "emcee": {"calibrate/trust/mcmc.py"},
    "corner": {"calibrate/report/corner_plot.py"},
    "bokeh": {"calibrate/report/frame.py"},
    "torch": {"calibrate/bench/"},
    "pynvml": {"calibrate/bench/"},
}

ROOMS = (
    *(
        "sim.errors",
        "sim.units",
        "sim.text_files",
        "sim.architecture",
        "sim.architecture_files",
        "sim.hardware",
    ),
    *("sim.steps", "sim.database", "sim.models", "sim.configuration", "sim.serving"),
    *(
        "calibrate.records",
        "calibrate.parameters",
        "calibrate.campaign",
        "calibrate.importers",
        "calibrate.bench",
    ),
    *(
        "calibrate.fitting",
        "calibrate.trust",
        "calibrate.transfer",
        "calibrate.planning",
        "calibrate.serving",
        "calibrate.outcome",
        "calibrate.capacity",
        "calibrate.watch",
    ),
    *("calibrate.exporters", "calibrate.report", "calibrate.job", "calibrate.cli"),
)
"""From the ground up: a room imports rooms below it only. Modules beside the folders of sim are rooms of their own."""


def imports_of(path):
    """Top-level and nested imports of a file, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def modules(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) > 5
    return found


def test_sim_imports_numpy_numba_and_the_standard_library_only():
    for path in modules("sim"):
        for name in imports_of(path):
            top = name.partition(".")[0]
            assert top in SIM_MAY_IMPORT or top in sys.stdlib_module_names, f"{path} imports {name}"


@pytest.mark.parametrize(("library", "homes"), ONLY_HERE.items())
@pytest.mark.slow
def test_a_heavy_library_has_one_home(library, homes):
    for path in [*modules("sim"), *modules("calibrate")]:
        where = path.relative_to(ROOT).as_posix()
        if library in {name.partition(".")[0] for name in imports_of(path)}:
            assert any(where.startswith(home) for home in homes), f"{where} imports {library}"


def room_of(name):
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("package", ["sim", "calibrate"])
def test_a_room_imports_rooms_below_it_only(package):
    seen = set()
    for path in modules(package):
        room = room_of(dotted(path))
        seen.add(room)
        if room == package:  # the face, which hands names on
            continue
        for name in imports_of(path):
            if name.partition(".")[0] in ("sim", "calibrate") and room_of(name) != room:
                assert ROOMS.index(room_of(name)) < ROOMS.index(room), (
                    f"{path} imports {name}, which lies above it"
                )
    assert seen - {package} == {room for room in ROOMS if room.startswith(f"{package}.")}


def test_every_room_says_what_it_is_for_and_what_it_may_use():
    for room in ROOMS:
        folder = ROOT / room.replace(".", "/")
        if folder.is_dir():
            text = ast.get_docstring(
                ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
            )
            assert {line.partition(":")[0] for line in text.splitlines() if ":" in line} >= {
                "In",
                "Uses",
            }, room


def dotted(path):
    return (
        path.relative_to(ROOT)
        .with_suffix("")
        .as_posix()
        .replace("/", ".")
        .removesuffix(".__init__")
    )


@pytest.mark.parametrize("package", ["sim", "calibrate"])
def test_there_is_no_import_cycle(package):
    graph = {}
    for path in modules(package):
        name = dotted(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        graph[name] = {node.module for node in top} | {
            f"{node.module}.{a.name}" for node in top for a in node.names
        }
    done, stack = set(), []

    def visit(name):
        assert name not in stack, (
            f"import cycle: {' -> '.join([*stack[stack.index(name) :], name])}"
        )
        if name not in done:
            stack.append(name)
            for target in sorted(graph[name] & graph.keys() - {name}):
                visit(target)
            done.add(stack.pop())

    for name in graph:
        visit(name)
    assert done == graph.keys()


def test_only_the_command_line_catches_our_own_errors():
    ours = {
        "CalibrateError",
        "CampaignError",
        "ConfigError",
        "RefusedFitError",
        "WorseFitError",
        "SimError",
    }
    for path in modules("calibrate"):
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                assert not caught & ours, f"{path}:{node.lineno} catches {caught & ours}"


def test_help_imports_nothing_heavy():
    code = (
        "import sys, calibrate.cli; "
        "heavy = {'numpy', 'pandas', 'scipy', 'lmfit', 'matplotlib', 'pyarrow', 'jinja2', 'pydantic', 'joblib'}; "
        "heavy |= {'bokeh', 'playwright', 'torch', 'numba'}; "
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert loaded.split() == []


def test_numba_is_imported_for_the_serving_simulator_only():
    code = "import sys, sim; sim.simulate, sim.Workload, sim.latency_model; print('numba' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert loaded.strip() == "False"
