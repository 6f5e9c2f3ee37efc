"""The index of reports: every page of the home, newest first, with its figure, and nothing that is not escaped."""

from __future__ import annotations

import json
import os

from html_page import HOSTILE, Page

from pipelines.report_index import find_reports, index_page

FIGURE = {"mean": 0.592, "low": 0.282, "high": 0.825, "n": 5}


def evaluated(home, key: str, recipe: str, trivial: str, written: float, gone: bool = False) -> None:
    (home / "reports").mkdir(parents=True, exist_ok=True)
    page = home / "reports" / f"{recipe}-{key[:12]}.html"
    page.write_text("a page")
    os.utime(page, (written, written))
    folder = home / "store" / "evaluate" / key
    folder.mkdir(parents=True)
    result = {"primary": "dice", "metrics": {"dice": FIGURE},
              "trivial": {"name": trivial, "metrics": {"dice": FIGURE | {"mean": 0.348}}}}  # fmt: skip
    if not gone:
        (folder / "evaluation.json").write_text(json.dumps(result))


def studied(home, key: str, written: float) -> None:
    folder = home / "store" / "study" / key
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("a study")
    os.utime(folder / "report.html", (written, written))
    (folder / "study.json").write_text(json.dumps({"recipe": "chest_xray", "verdict": f"Worth it {HOSTILE}"}))


def test_find_reports__newest_first_each_with_recipe_date_and_main_figure(tmp_path):
    evaluated(tmp_path, "ab" * 16, "brain_tumor", "threshold", 1000)
    studied(tmp_path, "cd" * 16, 3000)
    evaluated(tmp_path, "ef" * 16, "hippocampus", "threshold", 2000, gone=True)
    study, gone, evaluation = find_reports(tmp_path)
    assert (evaluation.recipe, evaluation.kind) == ("brain_tumor", "evaluation")
    assert evaluation.figure == "Dice 0.592 (0.282 to 0.825, n=5); threshold 0.348"
    assert evaluation.address == "evaluation/brain_tumor-abababababab.html"
    assert gone.recipe == "hippocampus" and "no longer" in gone.figure
    assert (study.recipe, study.kind, study.address) == ("chest_xray", "study", f"study/{'cd' * 16}.html")
    assert evaluation.when.startswith("1970-01-01")


def test_index_page__escapes_what_it_shows_and_links_what_there_is(tmp_path):
    evaluated(tmp_path, "ab" * 16, "brain_tumor", HOSTILE, 1000)
    evaluated(tmp_path, "12" * 16, "<img src=x onerror=alert(1)>", "threshold", 1000)
    studied(tmp_path, "cd" * 16, 3000)
    text = index_page(tmp_path, {"MLflow": "http://127.0.0.1:5"})
    page = Page(text)
    assert HOSTILE not in text and page.text.count(HOSTILE) == 2
    assert not [attrs for tag, attrs in page.tags if tag in ("img", "script") or "onerror" in attrs]
    assert {"http://127.0.0.1:5", f"study/{'cd' * 16}.html"} < set(page.values("href"))
    assert "Dice 0.592" in page.text


def test_index_page__an_empty_home_says_what_to_do(tmp_path):
    assert "selfsight run" in Page(index_page(tmp_path, {})).text
