"""What the Prefect flow costs: `selfsight run` against the verbs as plain functions, and a second run of the same."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHORT = {
    "size": "tiny", "pretrain.steps": "40", "pretrain.batch_size": "2", "pretrain.warmup_steps": "1",
    "finetune.steps": "20", "finetune.batch_size": "2", "finetune.warmup_steps": "1",
}  # fmt: skip
TEN_MINUTES = 600.0
DIRECT = """
import json, sys
from pathlib import Path
from domains.domain import find_recipe
from flows.settings import prepare_environment
source, home, changes = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
prepare_environment(home)
from pipelines.evaluate import evaluate
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.pretrain import pretrain
from pipelines.register import register
from pipelines.report import write_report
recipe = find_recipe("brain_tumor")[1].changed(changes)
ingest(source, recipe, home)
model = finetune(recipe, home, encoder=pretrain(recipe, home).folder)
judged = evaluate(model.folder, home)
register(judged.folder, home)
write_report(home, evaluation=judged.folder)
"""


def run() -> dict[str, float]:
    """Seconds of wall clock and CPU: directly, as a flow, the same again, and both with another seed in a known home.

    The overhead is the difference of flow and direct. In a new home the flow has Prefect's database made as well. On a
    machine that others use the CPU seconds are the steadier ones; waiting for the server is in none of them.
    """
    from domains.domain import find_recipe

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        source, home = Path(scratch) / "heads", Path(scratch) / "home"
        os.environ |= {"SELFSIGHT_KEY": f"{scratch}/key", "PYTHONPATH": str(ROOT)}
        domain = find_recipe("brain_tumor")[0]
        assert domain.generate is not None
        domain.generate(source, 10, 0)
        for when, seed in (("new_home", "0"), ("known_home", "1")):
            values = SHORT | {"seed": seed}
            changes = [f"--set={key}={value}" for key, value in values.items()]
            flow = [sys.executable, "-m", "flows.cli", "run", "brain_tumor", str(source), "--home", str(home), *changes]
            direct = [sys.executable, "-c", DIRECT, str(source), f"{scratch}/plain", json.dumps(values)]
            plain, wrapped = _timed(direct), _timed(flow)
            figures |= {f"{when}_direct_s": plain[0], f"{when}_flow_s": wrapped[0]}
            figures |= {f"{when}_overhead_s": wrapped[0] - plain[0], f"{when}_overhead_cpu_s": wrapped[1] - plain[1]}
        written = _database(home)
        figures["again_s"] = _timed(flow)[0]
        figures["server_started_again"] = float(_database(home) != written)
    figures["share_of_10_minutes"] = figures["known_home_overhead_s"] / TEN_MINUTES
    return {name: round(value, 3) for name, value in figures.items()}


def _timed(command: list[str]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU."""
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def _database(home: Path) -> int:
    """When Prefect's database was written last."""
    return (home / "prefect" / "prefect.db").stat().st_mtime_ns


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
