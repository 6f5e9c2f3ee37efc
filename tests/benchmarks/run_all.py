"""Runs every bench_*.py beside this file in a process of its own and prints one merged JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CALL = """
import json, runpy, sys
figures = runpy.run_path(sys.argv[1])["run"]()
print(json.dumps(figures))
"""


def main() -> int:
    """Benchmark name -> its figures on stdout; 1 when one failed, which is then in the object as "error"."""
    figures, failed = {}, False
    for file in sorted(HERE.glob("bench_*.py")):
        name = file.stem.removeprefix("bench_")
        print(f"bench {name} ...", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-c", CALL, str(file)], stdout=subprocess.PIPE, text=True, cwd=HERE.parents[1]
        )
        if done.returncode == 0:
            figures[name] = json.loads(done.stdout.strip().splitlines()[-1])
        else:
            failed = True
            figures[name] = {"error": f"exit code {done.returncode}"}
    print(json.dumps(figures, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
