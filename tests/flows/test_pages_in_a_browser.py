"""The pages in a real Chromium: from disk, without a request, on a phone, without an error, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import PHONE, Seen, browsing, look
from html_page import HOSTILE
from report_home import FILE_LIKE, a_home
from study_made import a_hostile_study

from flows.pages import _index
from pipelines.report import write_report
from pipelines.study_report import write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's report and a study's, in a folder whose name is as hostile as what stands in them."""
    home = tmp_path_factory.mktemp("pages") / "<script>alert(1)<%2fscript>"
    note = f"read {HOSTILE} {FILE_LIKE}"
    curve = [[0.0, 0.0], [0.0, 0.5], [2.0, 1.0]]
    evaluation = a_home(home, summary={"notes": [note], "froc_curve": curve, "uncertainty": 0.6})
    folder = home / "store" / "study" / "ab12"
    write_study(a_hostile_study(), home, folder)
    return {"run": write_report(home, evaluation=evaluation), "study": folder / "report.html", "home": home}


def check(seen: Seen) -> None:
    assert seen.left == [] and seen.said == []
    assert seen.facts["broken"] == []
    assert "Not a medical device" in seen.facts["text"]


@pytest.mark.parametrize("kind", ["run", "study"])
def test_report__opens_from_disk_and_is_read_on_a_phone(browser, pages, kind):
    seen = look(browser, pages[kind].as_uri(), PHONE)
    check(seen)
    assert HOSTILE in seen.facts["text"]  # it is shown, as text
    assert seen.facts["overflow"] == 0 and seen.facts["sticking_out"] == []
    assert seen.facts["small"] == []


@pytest.mark.parametrize("kind", ["run", "study"])
def test_report__on_a_desk_nothing_sticks_out(browser, pages, kind):
    seen = look(browser, pages[kind].as_uri(), DESK)
    check(seen)
    assert seen.facts["overflow"] == 0 and seen.facts["sticking_out"] == []


def test_index__lists_them_on_loopback(browser, pages):
    with _index(pages["home"], {"MLflow": "http://127.0.0.1:1"}) as address:
        seen = look(browser, f"{address}/", PHONE)
        check(seen)
        assert "Brain tumor" in seen.facts["text"] and HOSTILE in seen.facts["text"]
        assert seen.facts["overflow"] == 0 and seen.facts["small"] == []
        check(look(browser, f"{address}/evaluation/{pages['run'].name}"))


def test_look__sees_what_is_wrong_with_a_page(browser, tmp_path):
    wrong = tmp_path / "wrong.html"
    wrong.write_text('<body>Not a medical device <p style="font-size: 9px; width: 900px">tiny</p>'
                     '<img src="http://127.0.0.1:9/a.png"><script>alert(1); nothing()</script>')  # fmt: skip
    seen = look(browser, wrong.as_uri(), PHONE)
    assert seen.facts["overflow"] > 0 and seen.facts["sticking_out"] and seen.facts["small"]
    assert seen.left == ["http://127.0.0.1:9/a.png"]
    assert any("dialogue 1" in one for one in seen.said) and any("nothing" in one for one in seen.said)
