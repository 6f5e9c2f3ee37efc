"""What objectives ask for, and the refusal where data cannot give it."""

import pytest

from ssl_models import objectives


def test_refuse_unfit__says_why_and_what_fits():
    with pytest.raises(ValueError, match=r"proposals needs a rule that proposes labels; objectives that fit: .*mae"):
        objectives.refuse_unfit("mae + proposals", objectives.Given(time=False, painter=True, proposals=False))
    with pytest.raises(ValueError, match="anomaly_synthesis needs a painter") as refusal:
        objectives.refuse_unfit("anomaly_synthesis", objectives.Given(time=True, painter=False, proposals=True))
    assert "anomaly_synthesis" not in str(refusal.value).partition("fit:")[2]


def test_refuse_unfit__fits():
    objectives.refuse_unfit(
        "mae + 0.5 * anomaly_synthesis", objectives.Given(time=False, painter=True, proposals=False)
    )


def test_needs__of_a_sum_are_those_of_its_terms():
    assert objectives.needs("mae + proposals").proposals and not objectives.needs("mae + proposals").painter


@pytest.mark.parametrize("name", objectives.names())
def test_paper__a_year_and_one_work(name):
    cited = objectives.paper(name)
    assert any(str(year) in cited for year in range(2000, 2030)) and ";" not in cited and len(cited) < 140


def test_paper__simclr():
    assert objectives.paper("simclr") == "Chen et al. 2020 (arXiv 2002.05709)"
