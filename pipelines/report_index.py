"""Index of reports: every evaluation's and study's page of a home, newest first, with its main figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from domains.store import Store
from pipelines.report import templates
from pipelines.report_data import words
from pipelines.report_figures import number


@dataclass(frozen=True)
class Report:
    """One page, and what its line in the index says."""

    file: Path
    address: str
    """Where the index's own server shows it: "evaluation/<name>.html" or "study/<key>.html"."""
    recipe: str
    kind: str
    written: float
    """Seconds since 1970, UTC."""
    figure: str

    @property
    def when(self) -> str:
        """Date and time of this machine's zone."""
        return f"{datetime.fromtimestamp(self.written):%Y-%m-%d %H:%M}"


def find_reports(home: Path) -> list[Report]:
    """Every report of the home, newest first."""
    store = Store(Path(home))
    evaluations = [_of_evaluation(store, file) for file in (store.home / "reports").glob("*.html")]
    studies = [_of_study(file) for file in (store.home / "store" / "study").glob("*/report.html")]
    return sorted(evaluations + studies, key=lambda report: (-report.written, report.address))


def index_page(home: Path, servers: Mapping[str, str]) -> str:
    """The page that lists them, with links to `servers` (name -> address) above; everything on it is escaped."""
    page = templates().get_template("report_index.html.j2")
    return page.render(reports=find_reports(home), servers=servers, home=str(home))


def _of_evaluation(store: Store, file: Path) -> Report:
    recipe, _, key = file.stem.rpartition("-")
    [found, *_] = [*(store.home / "store" / "evaluate").glob(f"{key}*/evaluation.json"), None]
    figure = _headline(json.loads(found.read_text())) if found else "the evaluation is no longer in the store"
    return Report(file, f"evaluation/{file.name}", recipe, "evaluation", file.stat().st_mtime, figure)


def _headline(result: Mapping[str, Any]) -> str:
    primary, trivial = result["primary"], result["trivial"]
    mine, theirs = result["metrics"][primary], trivial["metrics"].get(primary)
    against = f"; {trivial['name']} {number(theirs['mean'])}" if theirs else ""
    low, high = number(mine["low"]), number(mine["high"])
    return f"{words(primary)} {number(mine['mean'])} ({low} to {high}, n={mine['n']}){against}"


def _of_study(file: Path) -> Report:
    study = json.loads((file.parent / "study.json").read_text())
    address = f"study/{file.parent.name}.html"
    return Report(file, address, study["recipe"], "study", file.stat().st_mtime, study["verdict"])
