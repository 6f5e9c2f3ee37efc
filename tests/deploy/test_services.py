"""The commands of compose.yaml as local processes: Postgres behind both servers, a schedule, a registered model."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_file import FOLDER, ROOT, Here, read_compose
from postgres_here import postgres, programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEW = {"steps": 2, "batch_size": 2, "warmup_steps": 1, "checkpoint_every": 2}
SHORT = [f"--set={verb}.{key}={value}" for verb in ("pretrain", "finetune") for key, value in FEW.items()]
RESOLVE = "import sys; from pipelines.registry import resolve; print(resolve(sys.argv[1], sys.argv[2]))"


def free_place() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that Postgres' own user may enter, which is not so below pytest's."""
    made = Path(tempfile.mkdtemp(prefix="selfsight-services-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Service:
    """Everything that compose.yaml starts, running here, with secrets that are drawn for this test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("PREFECT_AUTH_STRING", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY", "POSTGRES_PASSWORD",
                 "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")  # fmt: skip
        self.secrets = {name: f"planted{secrets.token_hex(12)}" for name in names}
        self.secrets["PREFECT_AUTH_STRING"] = f"selfsight:{self.secrets['PREFECT_AUTH_STRING']}"
        self.places = {name: free_place() for name in ("prefect:4200", "mlflow:5000", "objects:9000", "postgres:5432")}
        here = {"HOME": str(folder), "PREFECT_HOME": str(folder / "prefect"), "SELFSIGHT_HOME": str(folder / "home"),
                "SELFSIGHT_KEY": str(folder / "key"), "MPLCONFIGDIR": str(folder / "matplotlib"),
                "PGHOST": "127.0.0.1",
                "PGPORT": self.port("postgres:5432")}  # fmt: skip
        self.archive = folder / "archive"
        compose = read_compose(self.secrets | {"ARCHIVES": str(self.archive), "CRON": "* * * * *"})
        self.here = Here(compose, self.places | {"/archives": str(self.archive)}, here, folder)

    def port(self, place: str) -> str:
        return self.places[place].rpartition(":")[2]

    def url(self, place: str) -> str:
        return f"http://{self.places[place]}"

    def asked(self, place: str, path: str, user: str = "", **query: Any) -> Any:
        """The answer of a server as JSON; with a user ("name:password") it carries it."""
        headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
        if query:
            token = self.asked(place, "/api/csrf-token?client=test", user=user)["token"]
            headers |= {"Content-Type": "application/json", "Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
        request = urllib.request.Request(self.url(place) + path, headers=headers)
        with urllib.request.urlopen(request, json.dumps(query).encode() if query else None, timeout=20) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def python(self, *words: object, service: str = "worker") -> str:
        """What a program prints that runs beside a service, with its environment."""
        done = subprocess.run([sys.executable, *map(str, words)], env=self.here.environment(service), cwd=ROOT,
                              capture_output=True, text=True, timeout=240, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait(self, what: str, seconds: float, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except urllib.error.HTTPError as error:  # an answer: not yet made, or not yet ready
                with error:
                    assert error.code in (404, 503), (what, error.code, error.read())
            except OSError:
                pass
            for name, process in self.here.started.items():
                assert process.poll() is None, (name, (self.folder / f"{name}.log").read_text()[-3000:])
            assert time.monotonic() < deadline, (what, self.logs()[-6000:])
            time.sleep(0.3)

    def logs(self) -> str:
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder)
    password = made.secrets["POSTGRES_PASSWORD"]
    with postgres(folder / "postgres", int(made.port("postgres:5432")), "selfsight", password):
        # what the image does on an empty volume
        sql = ["CREATE DATABASE prefect", *(FOLDER / "postgres" / "databases.sql").read_text().split(";\n")]
        for statement in filter(None, sql):
            psql(made, "postgres", statement)
        words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", made.port("objects:9000")]
        with open(folder / "objects.log", "wb") as log:
            store = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log)
        try:
            for name in ("prefect", "mlflow"):
                made.here.start(name)
            assert "mlflow: made" in made.python(*made.here.command("buckets")[1:], service="buckets")
            made.wait("prefect", 240, lambda: made.asked("prefect:4200", "/api/health") or "up")
            made.wait("mlflow", 240, lambda: made.asked("mlflow:5000", "/health"))
            yield made
        finally:
            made.here.stop()
            store.kill()
            store.wait()


def psql(made: Service, database: str, statement: str) -> str:
    words = ["-h", "127.0.0.1", "-p", made.port("postgres:5432"), "-U", "selfsight", "-d", database, "-Atc", statement]
    done = subprocess.run([programs() / "psql", *words], env={"PGPASSWORD": made.secrets["POSTGRES_PASSWORD"]},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def dump(made: Service, database: str) -> str:
    words = ["-h", "127.0.0.1", "-p", made.port("postgres:5432"), "-U", "selfsight", database]
    known = {"PGPASSWORD": made.secrets["POSTGRES_PASSWORD"]}
    return subprocess.run(
        [programs() / "pg_dump", *words], env=known, capture_output=True, text=True, check=True
    ).stdout


def test_services__a_scheduled_run_finishes_and_its_model_is_in_the_registry(service):
    from domains.domain import find_recipe

    find_recipe("brain_tumor")[0].generate(service.archive, 10, 0)
    service.here.start("worker", "--set", "size=tiny", *SHORT)
    user = service.secrets["PREFECT_AUTH_STRING"]

    def finished() -> Any:
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
        runs = service.asked("prefect:4200", "/api/flow_runs/filter", user=user, flow_runs=ended)
        assert all(run["state_type"] == "COMPLETED" for run in runs), service.logs()[-6000:]
        return [run for run in runs if run["deployment_id"]]

    run = service.wait("the scheduled run", 600, finished)[0]
    assert run["auto_scheduled"] is True
    found = service.python("-c", RESOLVE, service.folder / "another_home", "models:/brain-tumor@challenger").strip()
    assert found.startswith(str(service.folder / "another_home"))  # brought from the object store, not found on a disk
    assert sum(file.stat().st_size for file in Path(found).glob("*.safetensors")) > 10_000
    assert int(psql(service, "prefect", "select count(*) from flow_run where state_type = 'COMPLETED'")) >= 1
    assert psql(service, "mlflow", "select name from registered_models where name = 'brain-tumor'") == "brain-tumor"


def test_services__strangers_get_nothing(service):
    for place, path in (("prefect:4200", "/api/admin/version"), ("mlflow:5000", "/api/2.0/mlflow/experiments/get?experiment_id=0")):  # fmt: skip # noqa: E501
        for user in ("", "admin:password1234", "selfsight:selfsight"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                service.asked(place, path, user=user)
            assert refused.value.code == 401, (place, user)
            refused.value.close()
    known = {"prefect:4200": service.secrets["PREFECT_AUTH_STRING"],
             "mlflow:5000": f"admin:{service.secrets['MLFLOW_ADMIN_PASSWORD']}"}  # fmt: skip
    assert service.asked("prefect:4200", "/api/admin/version", user=known["prefect:4200"])
    assert service.asked("mlflow:5000", "/api/2.0/mlflow/experiments/get?experiment_id=0", user=known["mlflow:5000"])


def test_services__no_secret_is_in_a_database_a_log_or_the_home(service):
    dumped = "".join(dump(service, database) for database in ("prefect", "mlflow", "mlflow_users"))
    assert "brain-tumor" in dumped and "flow_run" in dumped
    files = [file for place in ("home", "prefect", "another_home") for file in (service.folder / place).rglob("*")]
    texts = {"the databases": dumped.encode()}
    # moto writes down signed addresses, which name the key; that log is a part of the test and not of the service
    texts |= {file.name: file.read_bytes() for file in service.folder.glob("*.log") if file.name != "objects.log"}
    texts |= {str(file): file.read_bytes() for file in files if file.is_file()}
    assert any(name.endswith(".html") for name in texts) and {"prefect.log", "mlflow.log", "worker.log"} < set(texts)
    for name, secret in service.secrets.items():
        secret = secret.partition(":")[2] or secret
        assert not [where for where, text in texts.items() if secret.encode() in text], name
