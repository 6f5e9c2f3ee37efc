"""MLflow behind the journal: runs that survive its absence. With `registry.py` the only importer of mlflow."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from domains.errors import Preempted, Unreachable
from domains.store import locked, write_atomically
from pipelines.journal import Journal, records

if TYPE_CHECKING:
    from mlflow import MlflowClient

SEND_EVERY_SECONDS = 3.0
RETRY_AFTER_SECONDS = 30.0
SYSTEM_EVERY_SECONDS = 10.0
CLOSE_WITHIN_SECONDS = 90.0
LONGEST_PARAM, LONGEST_TAG, MOST_METRICS, MOST_PARAMS = 6000, 5000, 1000, 100
"""What MLflow takes: characters, and entries of one request."""

ENVIRONMENT = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
}
"""Offline, quiet, without pickles, and without a wait of minutes for a dead server; what the user sets wins."""

NO_ANSWER = re.compile(r"failed with (timeout )?exception|error code 50[234]")
"""How MLflow words a connection that failed, a time that ran out, and a proxy before a dead server."""


class Tracker:
    """One run's figures and pictures: on local disk at once, in MLflow a little later, from a background thread.

    MLflow away never stops a training: it is said once, and what was missed is sent when it is back, at `close`, or
    by `sync`. One run for one training, also after a resume: its id is in `folder/run.json`.

    Args:
        folder: of the run, in the home.
        params: may be nested; `dataset_digest` is also logged as a dataset.
    """

    def __init__(
        self, folder: Path, home: Path, *, experiment: str, run_name: str, params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.folder, self.home = Path(folder), Path(home)
        self._about = {
            "token": uuid.uuid4().hex, "run_id": None, "tracking": None, "experiment": experiment,
            "run_name": run_name, "params": _flat(params), "tags": {key: str(value) for key, value in tags.items()},
        }  # fmt: skip
        self._journal = Journal(self.folder)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures of a step; a step that the journal already has is left as it is."""
        self._begin()
        self._journal.metrics(step, metrics)

    def picture(self, name: str, png: bytes) -> None:
        """A PNG; `name` may have folders, e.g. "cases/3f.png"."""
        self._begin()
        path = self.folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
        self._journal.append("picture", name=name)

    def note(self, text: str) -> None:
        """A remark for the reader of the journal, e.g. that a damaged checkpoint was passed over."""
        self._begin()
        self._journal.append("note", text=text)

    def close(self, status: str = "FINISHED") -> None:
        """Ends the run as FINISHED, FAILED or KILLED and sends what is left, for a limited time."""
        self._begin()
        self._journal.append("status", status=status)
        self._stop.set()
        assert self._thread is not None
        self._thread.join(CLOSE_WITHIN_SECONDS)
        self._journal.close()
        if self._thread.is_alive():
            self._say("MLflow is slow; the rest of this run is in the journal, `selfsight sync` sends it")
        self._thread = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = "KILLED" if isinstance(error, Preempted) else "FAILED"
        self.close("FINISHED" if error is None else stopped)

    def _begin(self) -> None:
        """Opens the run on first use, which in a training is under the folder's lock."""
        if self._thread is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "run.json").exists():
            write_atomically(self.folder / "run.json", json.dumps(self._about, indent=1))
        self._journal.append("status", status="RUNNING")
        self._stop.clear()
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        import psutil

        process, sampled, pause = psutil.Process(), 0.0, SEND_EVERY_SECONDS
        process.cpu_percent()
        while not self._stop.wait(pause):
            if time.monotonic() - sampled >= SYSTEM_EVERY_SECONDS:
                sampled = time.monotonic()
                figures = {
                    "system/cpu_percent": process.cpu_percent(),
                    "system/rss_mb": process.memory_info().rss / 2**20,
                }
                self._journal.metrics(self._journal.next_step("system/rss_mb"), figures)
            pause = SEND_EVERY_SECONDS if self._send() else RETRY_AFTER_SECONDS
        self._send()

    def _send(self) -> bool:
        try:
            _forward(self.folder, self.home)
        except Exception as error:  # of any kind MLflow, its database or the network can raise: training goes on
            if not self._failed:
                self._say(
                    f"MLflow at {_shown(tracking_uri(self.home))} does not answer ({type(error).__name__}); figures "
                    f"are kept in {self._journal.path} and sent when it is back, later by `selfsight sync`"
                )
            self._failed = True
            return False
        self._failed = False
        return True

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def sync(home: Path) -> dict[str, int]:
    """Sends what MLflow missed of every run of the home: {"runs": looked at, "records": sent}.

    Raises:
        Unreachable: it is still away.
    """
    folders = sorted(path.parent for path in (Path(home) / "runs").glob("*/journal.jsonl"))
    with answering(home):
        return {"runs": len(folders), "records": sum(_forward(folder, Path(home)) for folder in folders)}


@contextmanager
def answering(home: Path) -> Iterator[None]:
    """Raises Unreachable where MLflow, asked inside, does not answer; what it answers, also a refusal, passes."""
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        # MLflow has one class for all; its message has the address, with what secrets that carries
        if isinstance(error, MlflowException) and not NO_ANSWER.search(str(error)):
            raise
        raise Unreachable(
            f"MLflow at {_shown(tracking_uri(home))} does not answer; everything before this step is kept: start it, "
            "or wait for it, and give the same command again"
        ) from None


def tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI`, else the home's own database, absolute."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(home).resolve()}/mlflow.db"


def tracked_inside(home: Path) -> bool:
    """Whether MLflow's data lies in the home."""
    return tracking_uri(home) == f"sqlite:///{Path(home).resolve()}/mlflow.db"


def client(home: Path) -> MlflowClient:
    """MLflow's client for the home, its database migrated."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # Two processes that migrate one new database at once would break it.
    with locked(Path(home) / "locks" / "mlflow"):
        import mlflow

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])  # others may have imported it before
        uri = tracking_uri(home)
        made = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        if uri.startswith("sqlite:"):
            made.search_experiments(max_results=1)
    return made


def _forward(folder: Path, home: Path) -> int:
    """Sends the journal's records behind the cursor; the cursor moves when MLflow has them.

    A record that was sent and not confirmed (a kill in between) is sent again and is the same to MLflow: equal name,
    step, time and value.
    """
    with locked(folder / "forward.lock"):
        run = json.loads((folder / "run.json").read_text())
        tracking = sha256(tracking_uri(home).encode()).hexdigest()[:16]
        cursor = _read_cursor(folder) if run["tracking"] == tracking else 0
        new = list(records(folder / "journal.jsonl", cursor))
        if not new:
            return 0
        mlflow = client(home)
        if run["tracking"] != tracking:
            run |= {"tracking": tracking, "run_id": _make_run(mlflow, run, home)}
            write_atomically(folder / "run.json", json.dumps(run, indent=1))
        _send_metrics(mlflow, run["run_id"], [record for record, _ in new if record["kind"] == "metrics"])
        for record, _ in new:
            _send_other(mlflow, run["run_id"], record, folder)
        last, offset = new[-1]
        write_atomically(folder / "cursor.json", json.dumps({"seq": last["seq"], "offset": offset}))
        return len(new)


def _read_cursor(folder: Path) -> int:
    path = folder / "cursor.json"
    return int(json.loads(path.read_text())["offset"]) if path.exists() else 0


def _make_run(mlflow: MlflowClient, run: dict[str, Any], home: Path) -> str:
    """The id of the run with our token: made, unless a try that was killed has made it."""
    from mlflow.entities import Dataset, DatasetInput, Param

    experiment = experiment_id(mlflow, run["experiment"], home)
    found = mlflow.search_runs([experiment], f"tags.`selfsight.token` = '{run['token']}'", max_results=1)
    if found:
        run_id = str(found[0].info.run_id)
    else:
        tags = {key: value[:LONGEST_TAG] for key, value in run["tags"].items()} | {"selfsight.token": run["token"]}
        run_id = str(mlflow.create_run(experiment, tags=tags, run_name=run["run_name"]).info.run_id)
    params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in run["params"].items()]
    for at in range(0, len(params), MOST_PARAMS):
        mlflow.log_batch(run_id, params=params[at : at + MOST_PARAMS])
    if digest := run["params"].get("dataset_digest"):
        dataset = Dataset(name=run["experiment"], digest=str(digest)[:36], source_type="selfsight", source="{}")
        mlflow.log_inputs(run_id, datasets=[DatasetInput(dataset, [])])
    return run_id


def experiment_id(mlflow: MlflowClient, name: str, home: Path) -> str:
    """The id of the experiment of that name; made where there is none, a local one with its artifacts in the home."""
    with locked(Path(home) / "locks" / "mlflow"):
        if found := mlflow.get_experiment_by_name(name):
            return str(found.experiment_id)
        own = tracking_uri(home).startswith("sqlite:")
        place = (Path(home).resolve() / "mlflow-artifacts" / name).as_uri() if own else None
        return str(mlflow.create_experiment(name, artifact_location=place))


def _send_metrics(mlflow: MlflowClient, run_id: str, metrics: list[dict[str, Any]]) -> None:
    from mlflow.entities import Metric

    points = [Metric(name, value, r["time"], r["step"]) for r in metrics for name, value in r["values"].items()]
    for at in range(0, len(points), MOST_METRICS):
        mlflow.log_batch(run_id, metrics=points[at : at + MOST_METRICS])


def _send_other(mlflow: MlflowClient, run_id: str, record: dict[str, Any], folder: Path) -> None:
    if record["kind"] == "picture":
        place = Path("pictures") / record["name"]
        if (folder / place).is_file():  # a picture of an erased patient is not there any more
            mlflow.log_artifact(run_id, str(folder / place), str(place.parent))
    elif record["kind"] == "note":
        mlflow.set_tag(run_id, f"selfsight.note.{record['seq']}", record["text"][:LONGEST_TAG])
    elif record["kind"] == "status" and record["status"] == "RUNNING":
        mlflow.update_run(run_id, status="RUNNING")
    elif record["kind"] == "status":
        mlflow.set_terminated(run_id, record["status"], record["time"])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": str(value)}
    return flat


def _shown(uri: str) -> str:
    """A URI without the credentials it may carry."""
    return uri if "@" not in uri else f"{uri.partition('://')[0]}://...@{uri.rpartition('@')[2]}"
