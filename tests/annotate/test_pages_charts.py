"""Charts and amounts as templates write them."""

import re
from collections import namedtuple
from decimal import Decimal

import pytest
from django.template import Context, Template
from django.test import Client, override_settings

from annotate.templatetags.amounts import duration, money, percent
from annotate.templatetags.charts import (
    curve,
    curves,
    gain_curves,
    histogram,
    interval,
    loss_curves,
    sparkline,
    stacked,
)
from tests.factories import make_user


def render(source: str, **context: object) -> str:
    return Template("{% load charts %}" + source).render(Context(context))


def test_a_histogram_scales_its_bars_to_a_round_top() -> None:
    chart = histogram([37, 0, 20], [0, 0, 20], 0.5)
    assert chart["top"] == 40
    assert [bar.height for bar in chart["bars"]] == ["92.50", "0.00", "50.00"]
    assert chart["bars"][2].selected_height == "50.00"
    assert chart["cut_x"] == "500.00"


def test_a_histogram_says_its_numbers_in_words_and_without_style() -> None:
    html = render("{% histogram counts selected cut %}", counts=[1200, 3], selected=[0, 3], cut=0.75)
    assert "1,203 items in 2 bins, 3 of them selected" in html
    assert "<td>0.50–1.00</td>" in html
    assert "Cut at 0.750" in html
    assert "style=" not in html


def test_a_histogram_without_items_or_selection_draws_nothing_wrong() -> None:
    html = render("{% histogram counts None None %}", counts=[0, 0])
    assert "Selected" not in html
    assert "chart-cut" not in html


def test_a_curve_runs_from_its_first_point_to_its_last() -> None:
    chart = curve([(0.0, 0.0), (1.0, 1.0), (0.5, 0.9)], 0.2)
    assert chart["points"] == "0.00,100.00 500.00,10.00 1000.00,0.00"
    assert chart["rows"][1] == ("50%", "90.0%")
    assert chart["mark_x"] == "200.00"


def test_a_long_curve_lists_eleven_of_its_points() -> None:
    rows = curve([(i / 1000, i / 1000) for i in range(1001)])["rows"]
    assert [x for x, _ in rows] == [f"{i}%" for i in range(0, 101, 10)]


def test_gains_may_fall_below_their_line_of_zero() -> None:
    chart = gain_curves([{"name": "Mine", "kind": "router", "points": [(0.0, 0.0), (0.5, 0.3), (1.0, -0.1)]}])
    assert chart["lines"][0]["path"] == "0.00,75.00 500.00,0.00 1000.00,100.00"
    assert (chart["top"], chart["zero"], chart["bottom"]) == ("0.3", "75.00", "-0.1")


def test_losses_are_drawn_over_evenly_spaced_costs() -> None:
    points = [
        {"factor": factor, "loss": loss, "best_agent_loss": 0.2, "random_loss": 0.4}
        for factor, loss in ((0, 0.0), (0.25, 0.1), (8.0, 0.2))
    ]
    chart = loss_curves(points)
    assert chart["ticks"] == ["0", "0.25", "8"]
    assert chart["lines"][0]["path"] == "0.00,100.00 500.00,75.00 1000.00,50.00"
    assert chart["rows"][1] == ("0.25", ["0.100", "0.200", "0.400"])
    html = render("{% loss_curves points %}", points=points)
    assert "Deferral loss against β times: Router; Best agent alone; Random, same shares" in html
    assert "style=" not in html


def test_parts_of_a_bar_add_up_to_its_width() -> None:
    parts = stacked([{"label": "a", "value": 1, "tone": "ok"}, {"label": "b", "value": 3, "tone": "bad"}])[
        "parts"
    ]
    assert [(part["x"], part["width"]) for part in parts] == [("0.00", "250.00"), ("250.00", "750.00")]
    assert stacked([{"label": "a", "value": 0, "tone": "ok"}])["parts"][0]["width"] == "0.00"


def test_a_sparkline_uses_its_whole_height() -> None:
    assert sparkline([2, 4, 3])["points"] == "0.00,100.00 500.00,0.00 1000.00,50.00"
    assert sparkline([])["points"] == ""


@override_settings(USE_THOUSAND_SEPARATOR=True, LANGUAGE_CODE="de")
def test_coordinates_never_follow_a_locale() -> None:
    html = render("{% curve points %}", points=[(0.0, 0.25), (1.0, 0.5)])
    assert 'points="0.00,75.00 1000.00,50.00"' in html


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (None, "–"),
        (0, "$0"),
        (Decimal("0.00001"), "under $0.0001"),
        (0.5, "$0.50"),
        (0.0125, "$0.0125"),
        (0.081, "$0.081"),
        (Decimal("1234.5"), "$1,234.50"),
    ],
)
def test_money(amount: Decimal | float | None, written: str) -> None:
    assert money(amount) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(None, "–"), (0.2, "under 1 s"), (45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (3600, "1 h")],
)
def test_duration(seconds: float | None, written: str) -> None:
    assert duration(seconds) == written


def test_percent() -> None:
    assert (percent(0.1234), percent(1.0, 0), percent(None)) == ("12.3%", "100%", "–")


@pytest.mark.django_db
def test_the_style_guide_is_there_only_while_debugging(client: Client) -> None:
    client.force_login(make_user())
    assert client.get("/styleguide").status_code == 404
    with override_settings(DEBUG=True):
        page = client.get("/styleguide").content.decode()
    assert not re.search(r"\sstyle=|\son[a-z]+=", page)


Line = namedtuple("Line", "name points error_share")


def test_curves_draw_each_line_the_chance_and_one_ideal_an_error_share() -> None:
    lines = [
        Line("first", [(0.0, 0.0), (0.25, 1.0), (1.0, 1.0)], 0.2),
        Line("second", [(0.0, 0.0), (1.0, 1.0)], 0.2),
    ]

    chart = curves(lines)
    html = render("{% curves lines %}", lines=lines)

    assert [line["number"] for line in chart["lines"]] == [0, 1]
    assert chart["lines"][0]["path"] == "0.00,100.00 250.00,0.00 1000.00,0.00"
    assert chart["ideals"] == ["0.00,100.00 200.00,0.00 1000.00,0.00"]
    assert chart["rows"][0] == ("0%", ["0.0%", "0.0%"])
    assert chart["rows"][2] == ("20%", ["80.0%", "20.0%"])
    assert "Random order" in html
    assert "style=" not in html


def test_an_interval_lies_on_its_axis_and_says_its_numbers() -> None:
    drawn = interval(0.6, 0.8, 0.9, start=0.5, end=1.0)

    assert (drawn["low"], drawn["value"], drawn["high"]) == ("200.00", "600.00", "800.00")
    html = render("{% interval 0.6 0.8 0.9 0.5 1.0 'Accuracy' %}")
    assert "Accuracy: 80.0%, interval 60.0% to 90.0%" in html
    assert interval(0.1, 0.2, 0.3, start=0.5)["low"] == "0.00"
