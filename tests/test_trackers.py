"""Each tracker, with a run that is killed, stopped and resumed, and one that diverges, read back from its own files.

`nox -s trackers` renders and installs the project that PROJECT names, and the trackers into the folder TRACKERS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.installed import PROJECT
from tests.project import Project, without_uv
from tests.waiting import foreground

TRACKERS = os.environ.get("TRACKERS", "")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Windows has no such signals"),
    pytest.mark.skipif(not TRACKERS, reason="SKIPPED: TRACKERS names no folder with the trackers"),
]

# Trains, and sends itself a signal once it has logged a step, or diverges from one on
TRAIN = """
import os, sys, time
from demo import train
from demo.__main__ import main
from demo.runtime.report import Report

def log(self, step, metrics, log=Report.log):
    log(self, step, metrics)
    if step == int(os.environ.get("AT", 0)):
        time.sleep(1)  # trackio writes twice a second
        os.kill(os.getpid(), int(os.environ["SIGNAL"]))

def rate(step, config, rate=train.learning_rate):
    return rate(step, config) * (1e12 if step > int(os.environ.get("DIVERGE", step)) else 1)

Report.log, train.learning_rate = log, rate
sys.exit(main())
"""

# Each prints, as JSON: of each run its state, a parameter, and the steps of its losses and of its evaluations
READ = {
    "tensorboard": """
import json, os
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
runs = []
for name in filter(os.path.exists, ("run", "bad")):
    events = EventAccumulator(name, size_guidance={"scalars": 0, "tensors": 0}).Reload()
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in ("state/text_summary",)}
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info
    steps = {
        kind: [event.step for event in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []
        for kind, tag in (("loss", "loss"), ("validation", "validation_loss"))
    }
    runs.append({"state": texts["state/text_summary"], "lr": start.hparams["lr"].string_value, **steps})
""",
    "wandb": """
import glob, json, struct
from wandb.proto import wandb_internal_pb2 as pb

def records(path):  # blocks of 32 kB, as in the log of LevelDB
    with open(path, "rb") as file:
        data = file.read()
    place, whole = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield pb.Record.FromString(whole)
            whole = b""

found = {}
for file in sorted(glob.glob("wandb/offline-run-*/*.wandb")):
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = found.setdefault(record.run.run_id, {"loss": [], "validation": []})
            run["lr"] = [item.value_json for item in record.run.config.update if item.key == "lr"][-1]
            run["state"], preempted = "running", False
        if kind == "history":
            items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            run["loss"] += [items["_step"]] * ("loss" in items)
            run["validation"] += [items["_step"]] * ("validation_loss" in items)
        if kind == "preempting":
            preempted = True
        if kind == "exit":
            run["state"] = "stopped" if preempted else "failed" if record.exit.exit_code else "finished"
runs = list(found.values())
""",
    "trackio": """
import glob, json, sqlite3
(path,) = glob.glob("trackio/demo.db")
runs = []
with sqlite3.connect(path) as database:
    names = [name for (name,) in database.execute("select distinct run_name from metrics order by id")]
    for name in names:
        rows = database.execute("select step, metrics from metrics where run_name = ? order by id", [name])
        rows = [(step, json.loads(metrics)) for step, metrics in rows]
        (config,) = database.execute("select config from configs where run_name = ?", [name]).fetchone()
        alerts = database.execute("select title from alerts where run_name = ? order by id", [name]).fetchall()
        runs.append({
            "state": alerts[-1][0].split()[-1],
            "lr": str(json.loads(config)["lr"]),
            "loss": [step for step, metrics in rows if "loss" in metrics],
            "validation": [step for step, metrics in rows if "validation_loss" in metrics],
        })
""",
    "mlflow": """
import json, mlflow
client = mlflow.MlflowClient()
(experiment,) = client.search_experiments(filter_string="name = 'demo'")
names = {"FINISHED": "finished", "KILLED": "stopped", "FAILED": "failed"}
runs = [
    {
        "state": names.get(run.info.status, run.info.status),
        "lr": run.data.params["lr"],
        "loss": [m.step for m in client.get_metric_history(run.info.run_id, "loss")],
        "validation": [m.step for m in client.get_metric_history(run.info.run_id, "validation_loss")],
    }
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
]
""",
}


class Tracked:
    """A project with a tracker, and the folder that it trains in."""

    def __init__(self, tracker: str, folder: Path) -> None:
        self.tracker, self.folder = tracker, folder
        project = Project.render(folder / "project", project_name="demo", tracker=tracker)
        self.environ = {
            **without_uv(),
            "PYTHONPATH": os.pathsep.join([str(project.path / "src"), TRACKERS]),
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "offline",
            "TRACKIO_DIR": str(folder / "trackio"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "HOME": str(folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def python(self, code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROJECT / ".venv/bin/python", "-c", code, *arguments],
            cwd=self.folder,
            env={**self.environ, **variables},
            timeout=200,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=foreground,
        )

    def train(self, code: int, *options: str, **variables: str) -> str:
        always = ["train", "--device=cpu", "--batch-size=8", "--log-every=5", "--save-every=20", "--eval-every=20"]
        done = self.python(TRAIN, *always, "--steps=60", *options, **variables)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def runs(self) -> list[dict[str, Any]]:
        done = self.python(READ[self.tracker] + "\nprint(json.dumps(runs))")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.mark.parametrize("tracker", list(READ))
def test_a_folder_is_one_run_whose_steps_come_once_and_whose_state_is_right(tracker: str, tmp_path: Path) -> None:
    tracked = Tracked(tracker, tmp_path)
    tracked.train(-9, "--out=run", AT="35", SIGNAL="9")
    tracked.train(128 + 15, "--out=run", AT="45", SIGNAL="15")
    (run,) = tracked.runs()
    assert run["state"] == "stopped"
    tracked.train(0, "--out=run")
    assert "not finite at step 35" in tracked.train(2, "--out=bad", "--lr=0.01", DIVERGE="30")
    run, bad = tracked.runs()
    assert (run["state"], bad["state"]) == ("finished", "failed")
    assert (run["lr"], bad["lr"]) == ("0.003", "0.01")
    # Offline, wandb does not say what it had written when it was killed: that may come again
    again = range(36) if tracker == "wandb" else ()
    for kind, expected in (("loss", [*range(5, 61, 5)]), ("validation", [20, 40, 60])):
        once = [step for step in run[kind] if step not in again]
        assert sorted([*once, *({*run[kind]} & {*again})]) == expected, f"each {kind} once"
    assert sorted(bad["loss"]) == [5, 10, 15, 20, 25, 30]


def test_without_a_login_one_line_says_what_to_do(tmp_path: Path) -> None:
    tracked = Tracked("wandb", tmp_path)
    error = tracked.train(2, "--out=run", WANDB_MODE="online").splitlines()[-1]
    assert error.startswith("error: wandb cannot start: ")
    assert error.endswith("run `wandb login`, or set WANDB_MODE=offline")


def test_a_tracker_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    tracked = Tracked("mlflow", tmp_path)
    address = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    error = tracked.train(2, "--out=run", **address).splitlines()[-1]
    assert error.startswith("error: mlflow cannot start: ")


def test_what_a_tracker_missed_is_recorded_later(tmp_path: Path) -> None:
    tracked = Tracked("mlflow", tmp_path)
    fail = 'import demo.runtime.tracker as t\ndef fail(*_): raise OSError("no route")\nt.Tracker._record = fail\n'
    always = ["train", "--device=cpu", "--batch-size=8", "--log-every=5", "--steps=20", "--out=run"]
    done = tracked.python(fail + TRAIN, *always)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("warning: mlflow records nothing: no route") == 1
    assert tracked.runs()[0]["loss"] == []
    tracked.python(TRAIN, *always)
    assert sorted(tracked.runs()[0]["loss"]) == [5, 10, 15, 20]
