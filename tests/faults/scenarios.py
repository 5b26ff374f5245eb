"""What is disturbed: a command, the state it begins from, and what may be there afterwards."""

import shutil
from pathlib import Path

from calibrate.campaign.campaign import load_campaigns
from calibrate.records.folders import put_back_folders
from tests.faults import place
from tests.faults.children import Work, command, run
from tests.faults.place import BrokenError, demand


class FitScenario:
    """A fit: configuration and report are old or new. The first may be ahead by the instant before a rename."""

    def __init__(self, root: Path, *more: object, work: Work | None = None) -> None:
        self.root = place.make_place(root)
        self.config = root / "hardware_config.json"
        self.work = work or command(*place.fit_arguments(root, *more))
        self.said = root.with_suffix(".said")
        self.old = self.config.read_bytes()
        self.next_run()
        self.new = self.config.read_bytes()
        demand(self.new != self.old, "the fit changes nothing")

    def reset(self) -> None:
        self.config.write_bytes(self.old)
        for kept in self.root.glob("hardware_config.json.*"):
            kept.unlink()
        for finished in place.whole_runs(self.root):
            shutil.rmtree(finished)

    def state(self) -> str:
        place.check_config(self.root)
        now = self.config.read_bytes()
        demand(now in (self.old, self.new), "the configuration is neither old nor new")
        runs = place.whole_runs(self.root)
        demand(len(runs) <= 1, "there are more runs than one")
        demand(now == self.new or not runs, "a report stands without its configuration")
        if now == self.old:
            return "old"
        return "new" if runs else "parted"

    def next_run(self) -> None:
        """Fit again: leftovers go, and the report of a configuration that was ahead of it comes."""
        parted = hasattr(self, "new") and self.state() == "parted"
        if not parted:
            self.reset()
        demand(run(self.work, self.said) == 0, f"the next fit fails: {self.said.read_text()}")
        demand(len(place.whole_runs(self.root)) == 1 + parted, "a run is missing")
        place.check_config(self.root)
        left = place.hidden(self.root)
        demand(not left, f"left over: {', '.join(left)}")


class FolderScenario:
    """A command that replaces a folder, or makes it where there is none: the folder is old or new."""

    def __init__(self, root: Path, folder: Path, first: Work, second: Work) -> None:
        self.root, self.folder, self.work = root, folder, second
        self.said = root.with_suffix(".said")
        self.saved = root.with_suffix(".old")
        demand(run(first, self.said) == 0, self.said.read_text())
        shutil.copytree(folder, self.saved)
        self.old: str | None = place.digest(folder)
        demand(run(second, self.said) == 0, self.said.read_text())
        self.new = place.digest(folder)
        demand(self.new != self.old, "the second is as the first")
        self.turn = 0

    def reset(self) -> None:
        """Three times in four the old folder stands there, and once nothing."""
        self.turn += 1
        shutil.rmtree(self.folder, ignore_errors=True)
        self.old = None
        if self.turn % 4:
            shutil.copytree(self.saved, self.folder)
            self.old = place.digest(self.folder)

    def state(self) -> str:
        """Every second time as a reader finds it, who puts back what was set aside; else as the kill left it."""
        parted = self.old is not None and not self.folder.exists()
        if parted and self.turn % 2:
            self.read()
        now = place.digest(self.folder)
        if parted and not self.turn % 2:
            return "parted"
        demand(now in (self.old, self.new), "the folder is neither old nor new")
        return "new" if now == self.new else "old"

    def read(self) -> None:
        put_back_folders(self.folder.parent)

    def next_run(self) -> None:
        demand(run(self.work, self.said) == 0, f"the next one fails: {self.said.read_text()}")
        demand(place.digest(self.folder) == self.new, "the next one does not make the new folder")
        left = place.hidden(self.root)
        demand(not left, f"left over: {', '.join(left)}")


class ImportScenario(FolderScenario):
    def __init__(self, root: Path) -> None:
        place.make_place(root)
        where = ("--gpu", "H100", "--campaign", "db", "--ground-truth", root / "ground_truth")
        first, second = (
            command("import", "bench-data", source, *where, "--force")
            for source in (
                place.make_database(root / "first", 0),
                place.make_database(root / "second", 1),
            )
        )
        super().__init__(root, root / "ground_truth/H100/db", first, second)

    def read(self) -> None:
        load_campaigns(self.root / "ground_truth", "H100", ["db"])

    def state(self) -> str:
        state = super().state()
        if self.folder.exists():
            (campaign,) = load_campaigns(self.root / "ground_truth", "H100", ["db"])
            wrong = [problem for problem in campaign.problems if problem.severity == "error"]
            if wrong:
                raise BrokenError(f"the campaign does not load: {wrong[0]}")
        return state


class ExportScenario(FolderScenario):
    def __init__(self, root: Path) -> None:
        place.make_place(root)
        first, second = (
            self._command(root, name, left_out) for name, left_out in (("one", 0), ("two", 1))
        )
        super().__init__(root, root / "exported", first, second)

    def _command(self, root: Path, name: str, left_out: int) -> Work:
        source = place.make_database(root / name, left_out)
        truth = root / f"{name}_truth"
        imported = command(
            *("import", "bench-data", source, "--gpu", "H100", "--campaign", "db"),
            *("--ground-truth", truth),
        )
        demand(run(imported, root.with_suffix(".said")) == 0, "the import fails")
        return command(
            *("export", "bench-data", "--gpu", "H100", "-o", root / "exported", "--force"),
            *("--ground-truth", truth, "--hardware-config", root / "hardware_config.json"),
        )


SCENARIOS = {
    "fit": FitScenario,
    "import": ImportScenario,
    "bootstrap": lambda root: FitScenario(root, "--bootstrap", 10),
    "export": ExportScenario,
}
