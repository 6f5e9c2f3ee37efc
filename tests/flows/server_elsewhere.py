"""A script: the commands at the head of deploy/prefect.yaml against a server, and one run by Prefect's own worker."""

import subprocess
import sys
from pathlib import Path

from flows.server import shared_server
from flows.settings import prepare_environment

COMMANDS = """work-pool create selfsight --type process
gcl create gpu --limit 1
automation create --from-file deploy/crash_zombies.yaml
--no-prompt deploy --all --prefect-file deploy/prefect.yaml
deployment run nightly/brain_tumor
worker start --pool selfsight --run-once"""

home = Path(sys.argv[1])
prepare_environment(home)
with shared_server(home):
    for line in COMMANDS.splitlines():
        subprocess.run([sys.executable, "-m", "prefect", *line.split()], check=True)
