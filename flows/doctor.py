"""doctor: versions, devices and disk, and the traps that no installer sees."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

LEAST_FREE_GIB = 2.0


def examine(home: Path) -> dict[str, Any]:
    """Versions, devices, free disk, and a list of problems in words."""
    import torch

    from pipelines.runtime import versions

    found = versions() | {name: version(name) for name in ("fastapi", "sqlalchemy")}
    devices = [f"{len(os.sched_getaffinity(0))} CPU cores"]
    devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    free = shutil.disk_usage(home).free / 2**30
    problems = _problems(found, home)
    if free < LEAST_FREE_GIB:
        problems.append(f"only {free:.1f} GiB free in {home}")
    return {"versions": found, "devices": devices, "disk_free_gib": free, "problems": problems}


def _problems(versions: dict[str, str], home: Path) -> list[str]:
    from domains.identity import key_file

    problems = []
    if _release(versions["fastapi"]) >= (0, 151):
        problems.append("Prefect's server does not start with this fastapi: install fastapi<0.151")
    if _release(versions["sqlalchemy"]) >= (2, 1):
        problems.append("Prefect's schedules silently never fire with this sqlalchemy: install sqlalchemy<2.1")
    if not os.access(home, os.W_OK):
        problems.append(f"{home} cannot be written")
    key = key_file()
    if key.exists() and key.stat().st_mode & 0o077:
        problems.append(f"others can read the key that hides names: chmod 600 {key}")
    if key.is_relative_to(home):
        problems.append(f"the key that hides names lies in the home that it protects: {key}")
    return problems


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
