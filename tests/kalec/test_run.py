"""`kalec run`: what runs and what need not, what is told when a step fails, and what is known of earlier runs."""

import json

import pytest
from lab import Lab

from kalec.errors import Busy, Failed, KalecError, NotFound, Refused
from kalec.running.folder import RunsFolder
from kalec.running.history import list_runs, open_folder, remove_runs, show_log, show_run

pytestmark = pytest.mark.slow


@pytest.fixture
def lab(tmp_path, capfd):
    return Lab(tmp_path, capfd)


TWO = (("pipeline-parameters", "n = 3"), ("step:load", "x = list(range(n))"), ("step:add prev:load", "total = sum(x)"))
METRIC = ("pipeline-metrics", "print(total)")


def test_a_pipeline_runs_and_its_metrics_are_printed(lab):
    lab.write(*TWO, METRIC)
    assert {name: step["state"] for name, step in lab.run().items()} == {"load": "done", "add": "done"}
    assert lab.out == "add total 3\n"
    assert "add: done in " in lab.err
    assert lab.record()["state"] == "done"


def test_a_second_run_does_nothing_again_and_has_the_same_metrics(lab):
    lab.write(*TWO, METRIC)
    lab.run()
    assert lab.states() == {"load": "known", "add": "known"}
    assert lab.out == "add total 3\n"


def test_only_what_changed_runs_again(lab):
    lab.write(*TWO)
    lab.run()
    lab.write(*TWO[:2], ("step:add prev:load", "total = sum(x) + 1"))
    assert lab.states() == {"load": "known", "add": "done"}
    lab.write(TWO[0], ("step:load", "x = sorted(range(n))"), ("step:add prev:load", "total = sum(x) + 1"))
    assert lab.states() == {"load": "done", "add": "known"}  # other code, the same value
    assert lab.states("n=4") == {"load": "done", "add": "done"}
    assert lab.states("n=3") == {"load": "known", "add": "known"}


def test_a_cell_that_moves_changes_nothing(lab):
    lab.write(*TWO)
    lab.run()
    lab.write(("skip", "words"), *TWO)
    assert lab.states() == {"load": "known", "add": "known"}


def test_a_changed_data_file_or_local_module_makes_its_step_run_again(lab):
    (lab.folder / "data.txt").write_text("1")
    (lab.folder / "mine.py").write_text("import deeper\ndef read(path):\n    return deeper.read(path)\n")
    (lab.folder / "deeper.py").write_text("def read(path):\n    return open(path).read()\n")
    lab.write(("imports", "import mine"), ("step:load", "x = mine.read('data.txt')"), ("step:use prev:load", "y = x"))
    assert lab.states() == {"load": "done", "use": "done"}
    assert lab.states() == {"load": "known", "use": "known"}
    (lab.folder / "data.txt").write_text("2")
    assert lab.states() == {"load": "done", "use": "done"}
    (lab.folder / "deeper.py").write_text("def read(path):\n    return open(path).read() + ''\n")
    assert lab.states()["load"] == "done"


def test_a_step_whose_file_is_gone_writes_it_again(lab):
    lab.write(("step:write", "open('made.txt', 'w').write('x')"))
    assert lab.states() == {"write": "done"}
    assert lab.states() == {"write": "known"}
    (lab.folder / "made.txt").unlink()
    assert lab.states() == {"write": "done"}


def test_cache_false_and_no_cache_run_again(lab):
    lab.write(TWO[0], ("step:load cache:false", "x = [n]"), TWO[2])
    lab.run()
    assert lab.states() == {"load": "done", "add": "known"}
    assert lab.states(cache=False) == {"load": "done", "add": "done"}


THREE = (("step:a", "x = 1"), ("step:b prev:a", "y = x + 1"), ("step:c prev:b", "z = y + x"), ("step:d", "w = 1"))


def test_from_runs_a_step_and_what_follows_over_what_is_there(lab):
    lab.write(*THREE)
    lab.run()
    assert lab.states(first="b") == {"a": "known", "b": "done", "c": "known", "d": "left out"}
    assert lab.states(first="b", last="b") == {"a": "known", "b": "done", "c": "left out", "d": "left out"}


def test_from_needs_results_to_go_on_from(lab):
    lab.write(*THREE)
    with pytest.raises(NotFound, match="step a has no result") as missing:
        lab.run(first="b")
    assert "--to a" in missing.value.hint


def test_to_runs_what_a_step_needs_and_no_more(lab):
    lab.write(*THREE)
    assert lab.states(last="b") == {"a": "done", "b": "done", "c": "left out", "d": "left out"}


BOOM = ("step:boom prev:a", "def f(v):\n    return v / 0\nf(x)")


def test_a_failing_step_is_told_and_what_does_not_need_it_goes_on(lab):
    lab.write(("step:a", "x = 1\nprint('made x')"), BOOM, ("step:after prev:boom", "1"), ("step:apart prev:a", "y = x"))
    with pytest.raises(Failed, match="run 1: boom failed") as failed:
        lab.run()
    states = {name: step["state"] for name, step in lab.record()["steps"].items()}
    assert states == {"a": "done", "boom": "failed", "after": "left out", "apart": "done"}
    assert "step boom failed: n.ipynb:cell 2:2: ZeroDivisionError: division by zero" in lab.err
    assert "the values that came in:\n  x = 1\n" in lab.err
    assert 'n.ipynb:cell 2", line 3, in <module>' in lab.err
    assert "kalec_runtime" not in lab.err
    assert "kalec runs show 1 --log boom" in failed.value.hint
    lab.write(("step:a", "x = 1\nprint('made x')"), ("step:boom prev:a", "y = x"), ("step:after prev:boom", "1"))
    assert lab.states() == {"a": "known", "boom": "done", "after": "done"}


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(7)", "its process left with code 7"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by signal 9"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("x = input()", "EOFError"),
    ],
)
def test_a_step_that_ends_otherwise_has_failed_and_is_told(lab, code, told):
    lab.write(("step:a", code))
    with pytest.raises(Failed):
        lab.run()
    assert told in lab.err


def test_a_value_that_cannot_be_handed_on_fails_the_step_that_made_it(lab):
    lab.write(("step:a", "import threading\nx = {'k': threading.Lock()}"), ("step:b prev:a", "y = x"))
    with pytest.raises(KalecError):
        lab.run()


def test_a_step_is_tried_again_as_often_as_it_says(lab):
    code = "import os\nn = len(os.listdir('tries'))\nopen(f'tries/{n}', 'w').close()\nassert n == 2, n"
    (lab.folder / "tries").mkdir()
    lab.write(("step:a retry:2", code))
    assert lab.run()["a"]["attempts"] == 3
    assert "a: failed, and is tried again (attempt 2)" in lab.err


def test_a_step_that_takes_longer_than_its_timeout_is_ended(lab):
    lab.write(("step:a timeout:1s", "import time\ntime.sleep(600)"))
    with pytest.raises(Failed):
        lab.run(ticks_per_second=4)
    assert "it took longer than its timeout of 1 s" in lab.err


def test_a_damaged_result_is_named_and_made_again(lab):
    lab.write(*TWO)
    lab.run()
    for result in (lab.folder / ".kalec" / "results").iterdir():
        for value in result.glob("*-x.json"):
            value.write_text(value.read_text().replace("2", "3"))
    lab.write(*TWO[:2], ("step:add prev:load", "total = sum(x) * 2"))
    with pytest.raises(Failed):
        lab.run()
    assert "variable 'x': " in lab.err
    assert "damaged" in lab.err
    assert lab.states(first="load") == {"load": "done", "add": "done"}


class Recorder:
    """A port that writes down what it is told."""

    def __init__(self):
        self.calls = []

    def before(self, step):
        self.calls.append(("before", step.name))

    def after(self, step, progress):
        self.calls.append(("after", step.name, str(progress.state)))


def test_the_port_hears_of_each_step_that_runs(lab):
    lab.write(*TWO)
    port = Recorder()
    lab.run(port=port)
    assert port.calls == [("before", "load"), ("after", "load", "done"), ("before", "add"), ("after", "add", "done")]
    lab.run(port=(quiet := Recorder()))
    assert quiet.calls == []


def test_steps_that_wait_for_nothing_run_at_once(lab):
    meet = "import os, time\nopen({own!r}, 'w').close()\nwhile not os.path.exists({other!r}):\n    time.sleep(0.01)"
    lab.write(("step:a", meet.format(own="a", other="b")), ("step:b", meet.format(own="b", other="a")))
    assert lab.states() == {"a": "done", "b": "done"}  # one after the other they would wait for ever


def test_prev_is_kept_where_no_value_travels(lab):
    lab.write(("step:a", "open('f', 'w').close()"), ("step:b prev:a", "import os\nassert os.path.exists('f')"))
    assert lab.states() == {"a": "done", "b": "done"}


VOLUME = {"name": "data", "mount_point": "/no/such/mount", "size": 1, "size_type": "Gi", "type": "new_pvc"}


def test_volumes_are_folders(lab):
    lab.write(("step:a", "open('/no/such/mount/f', 'w').write('x')"),
              ("step:b prev:a", "name = 'f'\ny = open(f'/no/such/mount/{name}').read()"), volumes=[VOLUME])  # fmt: skip
    lab.run()
    assert (lab.folder / ".kalec" / "volumes" / "data" / "f").read_text() == "x"
    (lab.folder / "mine").mkdir()
    lab.run(volumes=[f"data={lab.folder / 'mine'}"])
    assert (lab.folder / "mine" / "f").exists()
    with pytest.raises(Refused, match="no volume 'date'") as refused:
        lab.run(volumes=["date=/tmp"])
    assert refused.value.hint == "did you mean data?"


TYPED = ("pipeline-parameters", "i = 1\nf = 0.5\ns = 'a'\nb = False\nl = [1]\nd = {'k': 1}")


def test_parameters_are_of_their_types(lab):
    lab.write(TYPED, ("step:a", "print(repr((i, f, s, b, l, d)))"))
    lab.run("i=-3", "f=1e3", 's=it\'s "=" 5', "b=true", "l=[1, null]", 'd={"k": [2]}')
    show_log(lab.runs, 1, "a")
    assert lab.capfd.readouterr().out == "(-3, 1000.0, 'it\\'s \"=\" 5', True, [1, None], {'k': [2]})\n"


def test_runs_are_listed_shown_and_removed(lab):
    lab.write(*TWO, METRIC)
    lab.run()
    lab.run("n=5", as_json=True)
    assert json.loads(lab.out)["steps"]["add"]["metrics"] == {"total": 10}
    runs = open_folder(lab.notebook, None, {})
    list_runs(runs, lab.notebook, as_json=False)
    assert [line.split()[0] for line in lab.capfd.readouterr().out.splitlines()] == ["RUN", "1", "2"]
    show_run(runs, 2, as_json=False)
    shown = lab.capfd.readouterr().out
    assert "n = 5" in shown
    assert "load: x = list of 5, " in shown
    show_run(runs, 2, as_json=True)
    assert json.loads(lab.capfd.readouterr().out)["steps"]["load"]["values"][0]["name"] == "x"
    results = lab.folder / ".kalec" / "results"
    assert len(list(results.iterdir())) == 4
    remove_runs(runs, [1], every=False, dry_run=True)
    assert runs.numbers() == [1, 2]
    remove_runs(runs, [1], every=False, dry_run=False)
    assert runs.numbers() == [2]
    assert len(list(results.iterdir())) == 2
    assert lab.states("n=5") == {"load": "known", "add": "known"}
    remove_runs(runs, [], every=True, dry_run=False)
    assert list(results.iterdir()) == []


def test_a_result_that_another_run_has_is_kept(lab):
    lab.write(*TWO)
    lab.run()
    lab.run()
    remove_runs(lab.runs, [1], every=False, dry_run=False)
    assert lab.states() == {"load": "known", "add": "known"}


def test_no_run_is_removed_while_one_goes_on(lab):
    lab.write(*TWO)
    lab.run()
    with lab.runs.start(), pytest.raises(Busy, match="a run is going on"):
        remove_runs(lab.runs, [1], every=False, dry_run=False)
    assert lab.runs.numbers()[0] == 1


def test_what_is_asked_of_runs_that_are_not_there_is_named(lab):
    lab.write(*TWO)
    with pytest.raises(NotFound, match="there is no run 7") as found:
        show_run(lab.runs, 7, as_json=False)
    assert "--notebook" in found.value.hint  # nothing was ever run beside this one
    with pytest.raises(NotFound, match="there is no run 7"):
        remove_runs(lab.runs, [7], every=False, dry_run=False)
    with pytest.raises(Refused, match="name the runs"):
        remove_runs(lab.runs, [], every=False, dry_run=False)
    lab.run()
    with pytest.raises(NotFound, match="there is no run 7") as found:
        show_run(lab.runs, 7, as_json=False)
    assert "kalec runs list" in found.value.hint
    with pytest.raises(NotFound, match="no step 'lod'"):
        show_log(lab.runs, 1, "lod")


def test_one_state_folder_keeps_notebooks_of_one_name_apart(lab, tmp_path_factory):
    other = Lab(tmp_path_factory.mktemp("other"), lab.capfd)
    shared = tmp_path_factory.mktemp("state")
    for one, text in ((lab, "1"), (other, "2")):
        one.runs = RunsFolder(shared)
        one.environment["KALEC_STATE"] = str(shared)
        (one.folder / "data.txt").write_text(text)
        one.write(("step:load", "x = int(open('data.txt').read())"), ("step:show prev:load", "y = x"), METRIC_Y)
        assert one.run()["show"]["metrics"] == {"y": int(text)}
    assert lab.run(first="show")["show"]["metrics"] == {"y": 1}
    list_runs(shared_runs := RunsFolder(shared), lab.notebook, as_json=True)
    assert [json.loads(line)["number"] for line in lab.capfd.readouterr().out.splitlines()] == [1, 3]
    assert shared_runs.numbers() == [1, 2, 3]


METRIC_Y = ("pipeline-metrics", "print(y)")


def test_a_metric_that_is_no_finite_number_is_valid_json(lab):
    lab.write(("step:a", "y = float('nan')"), METRIC_Y)
    lab.run(as_json=True)
    assert json.loads(lab.out, parse_constant=pytest.fail)["steps"]["a"]["metrics"] == {"y": None}
    lab.run()
    assert lab.out == "a y nan\n"


def test_a_script_with_cells_runs_too(lab):
    lab.notebook = lab.folder / "p.py"
    lab.notebook.write_text('# %% tags=["step:a"]\nx = 2\n\n# %% tags=["step:b", "prev:a"]\ny = x / 0\n')
    with pytest.raises(Failed):
        lab.run()
    assert "step b failed: p.py:5: ZeroDivisionError" in lab.err
    assert "    y = x / 0\n" in lab.err
