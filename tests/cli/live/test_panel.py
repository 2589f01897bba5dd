"""The panel, the plain line, the summary: pure drawings of plain values."""

import io

import pytest
from rich.console import Console

from claude_executor.bulk import Bottleneck, FailureGroup, Spent, Summary
from claude_executor.cli.job.summary import closing
from claude_executor.cli.live.panel import LivePanel, line
from claude_executor.cli.live.panel_recorder import draw
from claude_executor.cli.live.progress import Bar, SlidingValue, View
from claude_executor.cli.terminal.bottleneck import limited_sentence
from claude_executor.cli.terminal.format import amount, count, money, percent, span

BARS = (
    Bar("requests", 1_000, 0.61, False),
    Bar("input tokens", 2_000_000, 0.22, False),
    Bar("output tokens", 400_000, 0.94, True),
)


def view(**changes) -> View:
    """A moment in the middle of a run."""
    values = {
        "title": "prompts.jsonl",
        "rows": 50_000,
        "done": 21_340,
        "failed": 0,
        "seconds": 1_234.0,
        "rate": 1_043.0,
        "left": 1_650.0,
        "state": "limited by output tokens, 94 %",
        "waits": False,
        "bars": BARS,
        "running": 112,
        "concurrency": 200,
        "waiting": 1_088,
        "retries": 42,
        "refusals": 3,
        "overloads": 17,
        "dollars": 12.34,
        "projected": 28.9,
    }
    return View(**{**values, **changes})


def drawn(thing, width=80, **options) -> str:
    """What a terminal of that width would show."""
    console = Console(width=width, file=io.StringIO(), **options)
    console.print(thing)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 48, 80, 120, 200])
def test_panel_fits_every_width(width):
    """No line is wider than the terminal, and the limit that binds is always named."""
    lines = drawn(LivePanel(view()), width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("output tokens" in one for one in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_panel_says_everything(width):
    """Rows, rate, time left, limit, shares, counts and cost are on it."""
    text = drawn(LivePanel(view(failed=3)), width)
    for words in (
        "21,340 of 50,000 rows", "1,043 rows a minute", "27:30 left", "3 failed",
        "limited by output tokens, 94 %",
        "61 %", "of 2M a minute", "112 in flight", "1,088 waiting", "42 retries", "3 429s", "17 529s",
        "$12.34 so far", "about $28.90 in total", "20:34",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("width", [30, 48, 80, 120])
def test_caps_are_told(width):
    """What it costs so far, of how much; tokens likewise; on the panel and on the plain line."""
    capped = view(max_cost=20.0, tokens=(1_234_567, 5_000_000))
    text = drawn(LivePanel(capped), width)
    assert max(map(len, text.splitlines())) <= width
    said = " ".join(text.replace("│", " ").split())
    assert "$12.34 so far of $20.00" in said
    if width >= 80:
        assert "1.2M of 5M tokens" in said
    assert line(capped).endswith("cost $12.34 of $20.00; 1.2M of 5M tokens")


@pytest.mark.parametrize("width", [50, 80, 100])
def test_the_echo_of_ctrl_c_wrapped_and_left_a_stray_line(width):
    """There is room for ^C behind the panel."""
    assert max(map(len, drawn(LivePanel(view()), width).splitlines())) <= width - len("^C")


def test_one_of_a_kind_stood_in_the_plural():
    """In the panel, on the plain line and in the summary."""
    one = view(rate=1.2, retries=1, refusals=1, overloads=1, errors=1)
    kinds = tuple(FailureGroup(str(number), 1, "x") for number in range(11))
    closed = drawn(closing(summary(rows_per_minute=1.2, failures=kinds)), 200)
    for text in (drawn(LivePanel(one), 120), line(one), closed):
        assert not any(f" 1 {what}" in text for what in ("rows a", "retries", "429s", "529s", "other errors"))
    assert "1 row a minute" in closed
    assert "and 1 more kind" in {one.strip() for one in closed.splitlines()}


def test_the_panel_kept_quiet_about_the_deadline():
    """Both say when nothing more will be sent."""
    soon = view(deadline=125.0)
    assert "deadline in 2:05" in drawn(LivePanel(soon), 80)
    assert "; deadline in 2:05; " in line(soon)


@pytest.mark.parametrize("width", [50, 80, 120])
def test_server_errors_were_counted_nowhere(width):
    """Panel, plain line and summary have a number for what is neither 429 nor 529."""
    troubled = view(errors=12)
    for text in (drawn(LivePanel(troubled), width), line(troubled), drawn(closing(summary(errors=12)), 120)):
        assert "12 other errors" in text


def test_lines_of_noughts_buried_why_nothing_was_answered():
    """Where nothing came of it, the rows are all there is to tell."""
    nothing = summary(succeeded=0, failed=0, unsent=100, spent=Spent(), failures=(), bottleneck=None)
    assert drawn(closing(nothing), 120).strip() == "rows  0 of 100 answered, 100 not sent"


def test_a_failure_was_said_to_have_failed():
    """Under "failures" there is neither that word again nor the kind twice."""
    group = FailureGroup("invalid request", 2, "failed: invalid request (HTTP 400): no")
    assert "failures  2 x invalid request (HTTP 400): no" in drawn(closing(summary(failures=(group,))), 120)


def test_open_breaker_is_told_in_words():
    """An overloaded API is not a number."""
    text = drawn(LivePanel(view(state="API overloaded: waiting, next probe in 3 s", waits=True)))
    assert "API overloaded: waiting, next probe in 3 s" in text
    assert "limited by" not in text


def test_unknown_price_is_not_zero():
    """No price known: no dollar sign anywhere."""
    text = drawn(LivePanel(view(dollars=None, projected=None)))
    assert "unknown" in text
    assert "$" not in text


def test_no_color_is_obeyed(monkeypatch):
    """NO_COLOR takes the colors away from a terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in drawn(LivePanel(view()), force_terminal=True)
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[3" in drawn(LivePanel(view()), force_terminal=True, color_system="standard")


def test_plain_line():
    """One line says the same."""
    text = line(view(failed=2))
    assert text.count("\n") == 0
    assert text == (
        "20:34  21,340/50,000 rows (43 %); 2 failed; 1,043 a minute; 27:30 left; "
        "limited by output tokens, 94 %; 112 in flight, 42 retries; 3 429s, 17 529s; cost $12.34"
    )


def test_picture_is_svg():
    """The picture holds the panel's words."""
    svg = draw(view(), width=90)
    assert svg.startswith("<svg")
    assert "output&#160;tokens" in svg


def summary(**changes) -> Summary:
    """How a run went."""
    values = {
        "rows": 100,
        "succeeded": 97,
        "failed": 2,
        "unsent": 1,
        "seconds": 61.0,
        "rows_per_minute": 97.4,
        "spent": Spent(1_000, 2_000, 30, 40, 0.5),
        "attempts": 110,
        "retries": 10,
        "refusals": 1,
        "overloads": 9,
        "failures": (FailureGroup("invalid request", 2, "no [such] field"),),
        "bottleneck": Bottleneck(
            "output tokens", "haiku-5.5", 50.0, 0.82, 400_000, "declared", 20.0, "requests"
        ),
        "stopped": None,
    }
    return Summary(**{**values, **changes})


def test_summary_says_how_it_went():
    """Counts, failures by kind with an example, cost, and what limited the run."""
    text = drawn(closing(summary()), 200)
    for words in (
        "97 of 100 answered, 2 failed, 1 not sent",
        "1,000 in, 2,000 out, 30 read from the cache, 40 written to it",
        "$0.50",
        "requests  110 (10 retries); 1 429, 9 529s",
        "2 x no [such] field",
        "limited by output tokens for 82 % of the time (400k a minute, as you set)",
        "; doubling it would have saved 0:20, then requests would have been the limit",
    ):
        assert words in text


def test_summary_says_what_failures_cost():
    """Attempts that failed may have been charged: their price, or their tokens where it is not known."""
    assert "more for attempts" not in drawn(closing(summary()), 200)
    text = drawn(closing(summary(wasted=Spent(100, 20, 0, 0, 0.25))), 200)
    assert "$0.5000; at least $0.2500 more for failed attempts" in text
    text = drawn(closing(summary(wasted=Spent(100, 20, 0, 0, None))), 200)
    assert "$0.5000; at least 120 tokens more for failed attempts" in text


def test_summary_says_what_failures_took_where_no_price_is_known():
    """What is not known of money is no reason to keep quiet about tokens."""
    unpriced = Spent(1_000, 2_000, 0, 0, None)
    text = drawn(closing(summary(spent=unpriced, wasted=Spent(100, 20, 0, 0, None))), 200)
    assert "unknown: no price known for the model; at least 120 tokens more for failed attempts" in text


def test_summary_is_plain_values():
    """What goes into JSON is all there."""
    assert summary().as_dict()["bottleneck"]["share"] == 0.82
    assert summary().as_dict()["spent"]["cache_read_tokens"] == 30


def test_concurrency_is_not_a_limit_of_the_api():
    """Where concurrency held things up, the option that raises it is named."""
    assert "--max-concurrency" in limited_sentence(Bottleneck("concurrency", "p", 5.0, 0.5))


def test_lately_follows_the_last_seconds():
    """A hundred seconds at 10 a second, then at 20: seen is the rate of the last ten."""
    lately, total, seen = SlidingValue(10.0), 0.0, {}
    for quarter in range(4 * 200):
        total += (10.0 if quarter < 4 * 100 else 20.0) / 4
        then, before = lately.before(quarter / 4, total)
        seen[quarter // 4] = 60 * (total - before) / max(1.0, quarter / 4 - then)
    assert seen[50] == seen[99] == pytest.approx(600)
    assert 600 < seen[105] < 1_200
    assert seen[120] == seen[199] == pytest.approx(1_200)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (amount(987.4), "987"),
        (amount(12_345), "12,345"),
        (amount(400_000), "400k"),
        (amount(2_000_000), "2M"),
        (amount(2_500_000), "2.5M"),
        (span(0), "0:00"),
        (span(0.5), "0.5 s"),
        (span(0.97), "0:01"),
        (span(7), "0:07"),
        (span(754), "12:34"),
        (span(3_723), "1:02:03"),
        (span(86_400 * 2 + 5), "2 days 0:00:05"),
        (money(None), "unknown"),
        (money(0), "$0"),
        (money(0.00001), "under $0.0001"),
        (money(0.0123), "$0.0123"),
        (money(1_234.5), "$1,234.50"),
        (percent(0.938), "94 %"),
        (count(1, "row"), "1 row"),
        (count(2_000, "row"), "2,000 rows"),
    ],
)
def test_words(made, text):
    """Numbers and spans as people read them."""
    assert made == text
