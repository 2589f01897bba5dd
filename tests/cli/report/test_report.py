"""``claude-executor report``: one page that needs nothing else, shows what it should, and quotes nobody."""

import json
import math
import os
import random
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from claude_executor.cli import cli

BEGAN = 1_700_000_000
ROWS = 400
SCRIPT = "<script>alert('x')</script>"
VOID = frozenset({"meta", "br"})


def result_lines():
    """Results of a run with failures, in which ids, kinds and errors try to be part of the page."""
    chance = random.Random(5)
    for number in range(ROWS):
        executor = {
            "hash": "h",
            "at": BEGAN + 30 + number % 100 * 0.3 + (5_000 if number >= ROWS / 2 else 0),
            "attempts": 1 + (number % 9 == 0),
            "queue_time": chance.uniform(0, 20),
            "duration": chance.lognormvariate(0.5, 0.4),
        }
        if number % 50 == 7:
            error = {
                "type": "error",
                "error": {"type": f"{SCRIPT}_error", "message": f"said {SCRIPT} & left"},
            }
            result = {"type": "errored", "error": error}
        else:
            usage = {"input_tokens": 700, "output_tokens": 200, "cache_read_input_tokens": 40}
            content = [{"type": "text", "text": "The secret reply"}]
            message = {"model": "claude-haiku-4-5", "content": content, "usage": usage}
            result = {"type": "succeeded", "message": message}
        line = {"custom_id": f"{SCRIPT}-{number}", "result": result, "prompt": "The secret prompt"}
        yield {**line, "executor": executor}


def timeline_lines():
    """Its timeline, of two runs and two pools."""
    for began in (BEGAN, BEGAN + 5_000):
        yield {"at": began, "start": 1}
        for second in range(1, 61):
            wave = 0.5 + 0.5 * math.sin(second / 6)
            pool = {
                "running": int(40 * wave),
                "queued": 50,
                "concurrency": 40,
                "held": {"output tokens": wave, "circuit breaker": 1 - wave},
                "used": {"requests": 3.3, "output tokens": 660.0},
                "level": {"requests": 200, "output tokens": int(5_000 * (1 - wave))},
            }
            if second in {1, 30}:
                pool["limits"] = {
                    "requests": [400.0 if second == 1 else 300.0, "declared", 400.0],
                    "output tokens": [40_000.0, "response headers", 6_000.0],
                }
            other = {"running": 1, "concurrency": 40}
            counts = {"attempts": 4, "retries": 1, "429": second % 2, "529": second % 3 == 0, "errors": 1}
            yield {"at": began + second, **counts, "pools": {"haiku-4.5": pool, f"{SCRIPT}&": other}}
        yield {"at": began + 60, "end": True}


def write(path: Path, lines) -> Path:
    """Write a file of JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def results(tmp_path) -> Path:
    """A results file and its timeline."""
    write(tmp_path / "day.results.timeline.jsonl", timeline_lines())
    return write(tmp_path / "day.results.jsonl", result_lines())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The report of such a file."""
    folder = tmp_path_factory.mktemp("report")
    write(folder / "r.timeline.jsonl", timeline_lines())
    results = write(folder / "r.jsonl", result_lines())
    ran = CliRunner().invoke(cli, ["report", str(results)])
    assert ran.exit_code == 0, ran.output
    return folder / "r.report.html"


class Page(HTMLParser):
    """What a page holds: its elements, its words, and whether every element was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        """The attributes of every element of one name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def key_figures(self) -> dict[str, str]:
        """The figures of the summary row by their names."""
        words = [word.strip() for word in self.words if word.strip()]
        names = ("rows", "succeeded", "failed", "running time", "rows per minute", "cost", "429s", "retries")
        return {name: words[words.index(name) + 1] for name in names}


@pytest.fixture(scope="module")
def page(written) -> Page:
    """The same, read."""
    return Page(written.read_text())


def test_it_writes_a_page_beside_the_results(invoke, results):
    """The page lies beside the results unless it is said where; stdout stays empty."""
    result = invoke("report", results)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "400 rows" in result.stderr
    assert results.with_name("day.results.report.html").exists()
    target = results.with_name("mine.html")
    assert invoke("report", results, "-o", target).exit_code == 0
    assert target.read_text().startswith("<!doctype html>")


def test_the_key_figures(page):
    """The row at the top says what results and timeline say."""
    assert page.key_figures() == {
        "rows": "400",
        "succeeded": "392",
        "failed": "8",
        "running time": "2:00",
        "rows per minute": "200",
        "cost": "$0.6680",
        "429s": "60",
        "retries": "120",
    }


def test_it_says_what_limited_the_job(page):
    """The sentence of the closing summary is there."""
    (sentence,) = [words for words in page.words if re.match("Limited by.* of the time", words)]
    assert "output tokens" in sentence or "circuit breaker" in sentence


def test_every_picture_says_what_it_shows(page):
    """Each has a caption, and words for those who do not see it; limits, waits, refusals, cost are there."""
    pictures = page.all("svg")
    assert len(pictures) == len(page.all("figure")) == len(page.all("figcaption")) >= 9
    assert all(picture["role"] == "img" and len(picture["aria-label"]) > 20 for picture in pictures)
    said = " ".join(picture["aria-label"] for picture in pictures)
    for what in ("Rows per minute", "Output tokens per minute", "Requests in flight", "Share of the time"):
        assert what in said
    for what in ("Response time", "Time in the queue", "60 429s", "Retries", "Cost so far"):
        assert what in said


def test_pictures_do_not_mix_up_their_parts(page):
    """Ids are unique in the page, and every reference finds its target."""
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {one["href"][1:] for one in page.all("use")}
    references |= {
        found
        for _, attributes in page.elements
        for found in re.findall(r"url\(#([^)]+)\)", attributes.get("clip-path", ""))
    }
    assert references
    assert references <= set(ids)


def test_colours_are_those_of_the_style_sheet(page):
    """Every color of a picture is a variable that exists, on light ground and on dark."""
    style = next(words for words in page.words if ":root" in words)
    light, dark = (
        set(re.findall(r"(--[a-z]+):", part)) for part in style.split("prefers-color-scheme: dark")
    )
    drawn = {
        found for _, one in page.elements for found in re.findall(r"var\((--[a-z]+)\)", one.get("style", ""))
    }
    assert drawn - {"--color"} <= light & dark
    assert not [one for _, one in page.elements if re.search(r"#[0-9a-f]{6}\b", one.get("style", ""))]


def test_what_others_wrote_cannot_become_part_of_the_page(page):
    """Ids, kinds, messages and names of pools are shown as they are, and nothing runs in this page."""
    assert not page.all("script")
    words = "".join(page.words)
    assert f"said {SCRIPT} & left" in words
    assert f"{SCRIPT}-7" in words
    assert f"{SCRIPT} error" in words
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    assert not [name for _, one in page.elements for name in one if name.startswith("on")]


def test_it_loads_nothing_and_quotes_nobody(written):
    """There is no address in the page, no prompt and no reply."""
    text = written.read_text()
    assert not re.search(r"https?:|//[a-z]|@import|src=|<link", text)
    assert "secret" not in text
    assert len(text) < 400_000


def test_results_of_message_batches(invoke, tmp_path):
    """Results from elsewhere give the report that can be given, and it says what is missing."""
    usage = {"input_tokens": 1_000, "output_tokens": 600, "service_tier": "batch"}
    message = {"model": "claude-haiku-4-5", "content": [], "usage": usage}
    rows = [{"custom_id": "a", "result": {"type": "succeeded", "message": message}}]
    rows.append({"custom_id": "b", "result": {"type": "expired"}})
    assert invoke("report", write(tmp_path / "batch.jsonl", rows)).exit_code == 0
    page = Page(tmp_path.joinpath("batch.report.html").read_text())
    figures = page.key_figures()
    assert (figures["rows"], figures["failed"], figures["cost"]) == ("2", "1", "$0.0020")
    assert (figures["running time"], figures["429s"], figures["retries"]) == ("unknown",) * 3
    assert not page.all("svg")
    assert "There is no timeline (batch.timeline.jsonl)" in "".join(page.words)


def test_without_a_timeline(invoke, results):
    """What the results tell is drawn: rows, waits, retries, cost."""
    results.with_name("day.results.timeline.jsonl").unlink()
    assert invoke("report", results).exit_code == 0
    page = Page(results.with_name("day.results.report.html").read_text())
    assert len(page.all("svg")) == 5
    assert page.key_figures()["retries"] == "45"


@pytest.mark.parametrize("rows", [1, 2])
def test_very_short_jobs(invoke, tmp_path, rows):
    """A job of a moment has a report as well."""
    write(tmp_path / "r.timeline.jsonl", [{"at": BEGAN, "start": 1}, {"at": BEGAN, "end": True, "pools": {}}])
    path = write(tmp_path / "r.jsonl", list(result_lines())[:rows])
    assert invoke("report", path).exit_code == 0


def some_pictures(invoke, tmp_path, *, tokens=700, seconds=20, **line):
    """The page of a short job, of which the timeline says the same every second."""
    usage = {"input_tokens": tokens, "output_tokens": 0}
    message = {"model": "claude-haiku-4-5", "content": [], "usage": usage}
    rows = [
        {
            "custom_id": str(number),
            "result": {"type": "succeeded", "message": message},
            "executor": {"at": BEGAN + seconds / 2, "attempts": 1, "queue_time": 0, "duration": 1.0},
        }
        for number in range(3)
    ]
    told = [{"at": BEGAN + second, **line} for second in range(1, seconds + 1)]
    write(tmp_path / "r.timeline.jsonl", [{"at": BEGAN, "start": 1}, *told])
    result = invoke("report", write(tmp_path / "r.jsonl", rows))
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "r.report.html").read_text()
    return {
        Page(found).all("svg")[0]["aria-label"]: Page(found)
        for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    }


def numbers_at(pictures, title):
    """What is written at the side of a picture, from below, and what is said of it."""
    ((said, picture),) = [(said, page) for said, page in pictures.items() if said.startswith(title)]
    return [word for word in picture.words if word.strip() and not re.fullmatch(r"\d:\d\d", word)], said


POOL = {
    "running": 1,
    "concurrency": 9,
    "used": {"requests": 40.0},
    "limits": {"requests": [600, "declared", 900]},
}


def test_a_limit_with_an_axis_below_nothing(invoke, tmp_path):
    """The room matplotlib leaves below zero is none of ours, however far use lies above the limit."""
    numbers, said = numbers_at(some_pictures(invoke, tmp_path, pools={"p": POOL}), "Requests per minute")
    assert numbers[0] == "0"
    assert numbers[-1] == "2,400"  # a burst that takes all of the time is not cut off
    assert "at most 2,400 per minute" in said


def test_counts_with_the_same_number_twice_at_their_axis(invoke, tmp_path):
    """Counts are whole, and a rate of next to nothing has but its 0."""
    pool = {
        **POOL,
        "concurrency": 1,
        "used": {"requests": 0.001},
        "limits": {"requests": [0.1, "declared", 1]},
    }
    pictures = some_pictures(invoke, tmp_path, errors=1, pools={"p": pool})
    assert numbers_at(pictures, "Failed attempts")[0] == ["0", "1", "2"]
    assert numbers_at(pictures, "Requests in flight")[0] == ["0", "1"]
    assert numbers_at(pictures, "Requests per minute")[0] == ["0"]


def test_pictures_of_nothing(invoke, tmp_path):
    """Nothing failed, nothing was sent again, nothing held the line: no empty axes, no `Limited by .`."""
    said = " ".join(some_pictures(invoke, tmp_path, pools={"p": POOL}))
    assert "Requests in flight" in said
    assert not re.search("Failed attempts|Retries|Share of the time|Limited by", said)


def test_a_wait_of_less_than_nothing_at_the_axis(invoke, tmp_path):
    """Where nobody waited the axis begins at 0 and still has a height; the one value there is is drawn."""
    pictures = some_pictures(invoke, tmp_path, pools={"p": POOL})
    numbers, said = numbers_at(pictures, "Time in the queue")
    assert numbers[0] == "0 s"
    assert numbers[-1] == "1 s"
    assert [dot for dot in pictures[said].all("use") if "--high" in dot["style"]]


@pytest.mark.parametrize(
    ("tokens", "last"), [(1, "$0.0000024"), (50, "$0.00012"), (700, "$0.0018"), (10**6, "$2.40")]
)
def test_cents_with_an_exponent(invoke, tmp_path, tokens, last):
    """Nobody reads $4.5e-05."""
    numbers, _ = numbers_at(some_pictures(invoke, tmp_path, tokens=tokens), "Cost so far")
    assert numbers[0] == "$0"
    assert numbers[-1] == last


def test_what_is_no_results_file(invoke, tmp_path, rows_file):
    """Each mistake is one line that says what to do, and exit 2."""
    for words, said in (
        ((rows_file(3),), "contains no results"),
        ((tmp_path / "none.jsonl",), "cannot read"),
        ((tmp_path,), "cannot read"),
        ((rows_file(3), "-o", tmp_path / "rows.jsonl"), "must end in .html"),
    ):
        result = invoke("report", *words)
        assert result.exit_code == 2
        assert said in result.stderr
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


def test_a_page_that_cannot_be_written(invoke, results, tmp_path):
    """The error names the file."""
    result = invoke("report", results, "-o", tmp_path / "nowhere" / "r.html")
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


@pytest.mark.parametrize("missing", ["numpy", "matplotlib", "jinja2"])
def test_without_the_extra(invoke, results, monkeypatch, missing):
    """Where a library is missing, it is said how to install it."""
    for name in [name for name in sys.modules if re.match(r"claude_executor\.(bulk|cli)\.report\.", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "claude_executor.bulk.report", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    result = invoke("report", results)
    assert result.exit_code == 2
    assert "pip install 'claude-executor[report]'" in result.stderr
    assert missing in result.stderr


# ---- in a browser


def chromium() -> str | None:
    """A Chromium of this machine, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        sandbox = [] if os.name == "nt" or os.geteuid() else ["--no-sandbox"]  # root has none
        browser = started.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_in_a_browser(browser, written, width, scheme):
    """Drawn without a network, without a complaint, and without scrolling sideways."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    try:
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(written.as_uri())
        assert complaints == []
        assert [url for url in requests if not url.startswith("file:")] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        pictures = page.locator("figure svg")
        assert pictures.count() >= 9
        for picture in pictures.all():
            box = picture.bounding_box()
            assert box is not None
            assert box["width"] > 250
            assert box["height"] > 100
        assert page.get_by_role("img", name="Output tokens per minute").count() == 1
        for figure in ("392", "$0.6680", "2:00"):
            assert page.locator("dd", has_text=figure).first.is_visible()
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(252, 252, 251)", "dark": "rgb(19, 21, 25)"}[scheme]
    finally:
        context.close()
