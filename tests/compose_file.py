"""deploy/compose.yaml as the tests read it: with its variables filled in, and its services as local processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy"


def read_compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with `${NAME}`, `${NAME:-default}` and `${NAME:?why}` as compose fills them in.

    Raises:
        KeyError: a variable that has no default is missing.
    """

    def fill(match: re.Match[str]) -> str:
        name, kind, default = match["name"], match["kind"], match["rest"]
        return variables.get(name) or default if kind == ":-" else variables[name]

    pattern = r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\}"
    return yaml.safe_load(re.sub(pattern, fill, (FOLDER / "compose.yaml").read_text()))


def image_environment() -> dict[str, str]:
    """What the Dockerfile's last stage sets."""
    last = (FOLDER / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    lines = [line.removeprefix("ENV ") for line in last.splitlines() if line.startswith("ENV ")]
    return dict(word.split("=", 1) for line in lines for word in line.split())


class Here:
    """Services of a compose file as processes of this machine: same commands, same settings, other addresses.

    Args:
        places: "prefect:4200" -> "127.0.0.1:53211", for every service that another one talks to; mounted folders too.
        settings: what differs besides, such as folders.
    """

    def __init__(self, compose: Mapping[str, Any], places: Mapping[str, str], settings: Mapping[str, str], logs: Path):
        self._services, self._places, self._logs = compose["services"], dict(places), logs
        self._settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **settings}
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        """Of a service: the image's, then its own, then this machine's."""
        own = {key: self._moved(str(value)) for key, value in self._services[name].get("environment", {}).items()}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return image_environment() | own | self._settings | {"PATH": path}

    def command(self, name: str) -> list[str]:
        """Of a service, on loopback and on its free port."""
        words = [str(word) for word in self._services[name]["command"]]
        ports = {
            place.partition(":")[2]: here.partition(":")[2] for place, here in self._places.items() if ":" in place
        }
        words = [{"0.0.0.0": "127.0.0.1"}.get(word) or ports.get(word) or self._moved(word) for word in words]
        return [sys.executable, "-m", "flows.cli", *words[1:]] if words[0] == "selfsight" else words

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        """Starts a service; `more` words follow its own."""
        with open(self._logs / f"{name}.log", "wb") as log:
            words = [*self.command(name), *more]
            self.started[name] = subprocess.Popen(
                words, env=self.environment(name), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip
        return self.started[name]

    def stop(self) -> None:
        """Ends what was started, the last first."""
        for process in reversed(self.started.values()):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _moved(self, text: str) -> str:
        for place, here in self._places.items():
            text = re.sub(rf"(?<![\w.]){re.escape(place)}\b", here, text)
        return text
