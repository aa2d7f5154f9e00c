"""A folder with a notebook, and the runs in it."""

import itertools
import os
from datetime import UTC, datetime

from stepwise import notebook

from kalec.load import load_pipeline
from kalec.running.command import Options, World, run_pipeline
from kalec.running.folder import RunsFolder


class Lab:
    """A folder with a notebook, and the runs in it."""

    def __init__(self, folder, capfd):
        self.folder, self.capfd = folder, capfd
        self.notebook = folder / "n.ipynb"
        self.environment = dict(os.environ)
        self.runs = RunsFolder(folder / ".kalec")

    def write(self, *cells, **metadata):
        self.notebook.write_text(notebook(*cells, metadata=metadata))

    def run(self, *parameters, port=None, ticks_per_second=1000, **options):
        """Run, and return what the record says of each step. A second has passed when the clock was read so often."""
        ticks = itertools.count()
        world = World(
            self.environment, lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: next(ticks) / ticks_per_second
        )
        try:
            loaded = load_pipeline(self.notebook)
            run_pipeline(self.notebook, loaded, Options(parameters, jobs=2, **options), world, port)
        finally:
            self.out, self.err = self.capfd.readouterr()
        return self.record()["steps"]

    def record(self):
        return self.runs.record(self.runs.numbers()[-1])

    def states(self, *parameters, **options):
        return {name: step["state"] for name, step in self.run(*parameters, **options).items()}
