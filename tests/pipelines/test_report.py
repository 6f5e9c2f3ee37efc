"""The report: self-contained, escaped, complete, worst case first, and whole when parts of the lineage are gone."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from html_page import HOSTILE, Page
from report_home import FILE_LIKE, a_home

from domains.errors import UsageError
from pipelines.report import duration, write_report
from pipelines.report_figures import number
from pipelines.report_lesions import _drawn


def test_write_report__everything_escaped_and_self_contained(tmp_path):
    text = write_report(tmp_path, evaluation=a_home(tmp_path)).read_text()
    page = Page(text)
    assert HOSTILE not in text and HOSTILE in page.text
    assert FILE_LIKE not in text and FILE_LIKE in page.text
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert set(page.values("href")) <= {"#" + name for name in page.values("id")}
    assert "url(" not in text and "@import" not in text


def test_write_report__cases_all_there_worst_first_undefined_last(tmp_path):
    page = Page(write_report(tmp_path, evaluation=a_home(tmp_path)).read_text())
    assert page.values("data-subject") == ["subject1", "subject3", "subject0", "subject2"]
    overlays = [alt for alt in page.values("alt") if alt.startswith("Overlay")]
    assert len(overlays) == 3, "subject0 names a picture outside its evaluation"


def test_write_report__counts_add_up_and_sections_are_there(tmp_path):
    page = Page(write_report(tmp_path, evaluation=a_home(tmp_path)).read_text())
    text = re.sub(r"\s+", " ", page.text)
    assert "14 files found = 6 accepted + 1 refused + 6 labels + 1 ignored." in text
    assert "do not add up" not in text
    assert (
        "6 subjects of 6 groups" in text
        and "4 cases of 4 groups (such as patients or drives) of the archive's 6" in text
    )
    assert "labels of 2 other groups, after pretraining without labels on 2 groups" in text
    assert "Probes looked at labels of 1 group while it ran" in text
    assert re.search("RankMe *7.25 *11.5", text) and "Better than the competitor" in text
    assert "1 h 2 min" in text and "3.4 %" in text and "987 MB" in text
    assert "Not a medical device" in text and "CC BY 4.0" in text
    labels = page.values("aria-label")
    for figure in ("histogram of Shape [1]", "histogram of Label: Tumor fraction", "loss over step"):  # fmt: skip
        assert figure in labels
    assert "resumed" in text and "Warning" not in text


@pytest.mark.parametrize("flag, word", [("within_group", "Within-group."), ("transductive", "Transductive.")])
def test_write_report__warns(tmp_path, flag, word):
    without = Page(write_report(tmp_path, evaluation=a_home(tmp_path)).read_text()).text
    assert word not in without
    assert word in Page(write_report(tmp_path, evaluation=a_home(tmp_path, **{flag: True})).read_text()).text


@pytest.mark.parametrize(
    "low, high, verdict", [(0.1, 0.3, "Better"), (-0.3, -0.1, "Worse"), (-0.1, 0.1, "cannot be told")]
)
def test_write_report__verdict_follows_the_paired_interval(tmp_path, low, high, verdict):
    folder = a_home(tmp_path, paired={"dice": {"mean": (low + high) / 2, "low": low, "high": high, "n": 3}})
    assert verdict in Page(write_report(tmp_path, evaluation=folder).read_text()).text


def test_write_report__one_group_claims_nothing(tmp_path):
    cases = [
        {"subject_id": f"s{i}", "group_id": "g", "metrics": {"dice": 0.5}, "trivial": {"dice": 0.4}} for i in range(3)
    ]
    text = Page(write_report(tmp_path, evaluation=a_home(tmp_path, cases=cases)).read_text()).text
    assert "Only 1 group: too few" in text and "too few groups for an interval" in text
    assert "3 cases of 1 group (" in text and "Better" not in text


@pytest.mark.parametrize(
    "value, text",
    [(None, "–"), (float("nan"), "–"), (0.5, "0.500"), (-0.05, "−0.050"), (3, "3"), (12.34, "12.3"), (1234.5, "1 234"),
     (0.00012, "0.00012")],
)  # fmt: skip
def test_number__three_digits(value, text):
    assert number(value).replace("\N{NARROW NO-BREAK SPACE}", " ") == text


def test_write_report__subgroups_in_a_table_and_reliability(tmp_path):
    groups = {"view AP": {"cases": 7, "auroc": 0.61}, "view PA": {"cases": 3, "auroc": None}}
    mine = {"by": groups, "reliability": [[0.1, 0.0, 8], [0.9, 1.0, 2]], "notes": [f"Read {HOSTILE}."], "froc": 0.6}
    others = {"name": "rule", "metrics": {"dice": {"mean": 0.1, "low": 0.1, "high": 0.1, "n": 3}},
              "summary": {"by": {"view AP": {"cases": 7, "auroc": 0.55}}}}  # fmt: skip
    text = write_report(tmp_path, evaluation=a_home(tmp_path, summary=mine, trivial=others)).read_text()
    row = text[text.index("<td>View AP</td>") :].partition("</tr>")[0]
    assert "7" in row and "0.610" in row and "0.550" in row and "–" in text[text.index("<td>View PA</td>") :][:200]
    assert "By view" not in text and HOSTILE not in text and "Read " in text
    [figure] = [part for part in text.split("<svg")[1:] if "reliability diagram" in part.partition(">")[0]]
    figure = figure.partition("</svg>")[0]
    dots = [tuple(float(v) for v in dot) for dot in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', figure)]
    (x1, y1, r1), (x2, y2, r2) = dots
    assert x2 > x1 and y2 < y1 and r1 == pytest.approx(2 * r2, rel=0.02)  # the area is the share
    assert 'id="set"' not in write_report(tmp_path, evaluation=a_home(tmp_path, seconds=1.0)).read_text()


@pytest.mark.parametrize("gone", [("pretrain",), ("pretrain", "finetune"), ("manifest", "labels", "label")])
def test_write_report__what_is_gone_is_left_out(tmp_path, gone):
    folder = a_home(tmp_path)
    for stage in gone:
        shutil.rmtree(tmp_path / "store" / stage)
    page = Page(write_report(tmp_path, evaluation=folder).read_text())
    assert len(page.values("data-subject")) == 4
    if "pretrain" in gone:
        assert "from scratch" in page.text
    if "manifest" in gone:
        assert "no longer in the store" in page.text


def test_write_report__map_of_the_archive(tmp_path, monkeypatch):
    asked = []

    def section(store, network, manifest):
        asked.append((network.parent.name, len(manifest.subjects)))
        uri = "data:image/png;base64,AA"
        return {"subjects": [{}] * 6, "total": 6, "method": "t-SNE", "colour": HOSTILE, "picture": uri,
                "follows": [{"fact": HOSTILE, "correlation": 0.62}], "outliers": ["odd"],
                "near_duplicates": [{"subjects": ["one", "two"], "distance": 0.0123}],
                "thumbnails": {"one": uri, "two": uri, "odd": uri}}  # fmt: skip

    folder = a_home(tmp_path)
    assert "Map of the archive" not in write_report(tmp_path, evaluation=folder).read_text(), "no subject is there"
    monkeypatch.setattr("pipelines.report.map_section", section)
    text = write_report(tmp_path, evaluation=folder).read_text()
    page = Page(text)
    assert asked == [("pretrain", 6)] and HOSTILE not in text and "map" in page.values("id")
    assert "1 pairs of near-duplicates, 1 outliers" in page.text and "0.012" in page.text
    assert {"Subject one", "Subject two", "Subject odd"} <= set(page.values("alt"))


def of_lesions(home: Path, **changes: Any) -> Path:
    """An evaluation with a FROC, in which the model finds all lesions and the competitor half of them."""

    def figures(froc: float) -> dict[str, Any]:
        at = {f"{small}sensitivity_at_{rate}": {"mean": froc, "low": froc - 0.125, "high": froc, "n": 3}
              for small in ("", "small_") for rate in ("0.125", "1", "8")}  # fmt: skip
        same = {"mean": froc, "low": froc - 0.125, "high": froc, "n": 3}
        return {"dice": {"mean": 0.5, "low": 0.2, "high": 0.9, "n": 3}, "froc": same, "small_froc": same, **at}

    return a_home(
        home,
        metrics=figures(0.875),
        trivial={"name": f"threshold {HOSTILE}", "metrics": figures(0.25), "summary": {}},
        pooled=["froc", "sensitivity_at_1"],
        summary={"notes": [f"the unit is the slice {HOSTILE}"], "froc_curve": [[0.0, 0.0], [0.0, 0.5], [2.0, 1.0]]},
        **changes,
    )


def test_write_report__froc_as_a_curve_and_a_table(tmp_path):
    text = write_report(tmp_path, evaluation=of_lesions(tmp_path)).read_text()
    page = Page(text)
    words = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text)))  # cells apart
    assert "share of lesions found over false positives per scan" in page.values("aria-label")
    assert text.count("<polyline") == 3, "the curve of the model beside two losses; others have no curve"
    assert "False positives per scan 1/8 1 8 mean" in words
    assert "this model, all lesions 0.875 0.750 to 0.875" in words
    assert "small lesions 0.250 0.125 to 0.250" in words
    assert f"the unit is the slice {HOSTILE}" in page.text and HOSTILE not in text
    assert "Sensitivity at 1" not in words and "FROC: of all cases together" in words
    assert "#lesions" in page.values("href")


def test_drawn__as_the_table_reads_it():
    """On the logarithmic axis from 1/8 to 8: level at 0.5 up to the jump at one false positive."""
    drawn = _drawn([[0.0, 0.0], [0.0, 0.5], [1.0, 0.5], [1.0, 1.0]], ["0.125", "8"])
    assert drawn[0] == (-3.0, 0.5) and drawn[-1] == (3.0, 1.0)
    assert all(y == (0.5 if x < 0 else 1.0) for x, y in drawn)


def test_write_report__no_evaluation(tmp_path):
    with pytest.raises(UsageError, match="no evaluation at"):
        write_report(tmp_path, evaluation=tmp_path)


def test_write_report__same_evaluation_same_page(tmp_path):
    folder = a_home(tmp_path)
    first = write_report(tmp_path, evaluation=folder)
    before = first.read_bytes()
    assert write_report(tmp_path, evaluation=folder).read_bytes() == before
    assert first.parent == tmp_path / "reports"


@pytest.mark.parametrize(
    "seconds, text", [(None, "–"), (0.5, "0.5 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min")]
)
def test_duration__units(seconds, text):
    assert duration(seconds) == text
