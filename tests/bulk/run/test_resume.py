"""Going on where a run was: what is done already, what failed, what changed; and the order of it all."""

import asyncio
import random

import orjson
import pytest

from claude_executor import FailureKind, Stopped
from claude_executor.bulk import (
    BadInput,
    Changed,
    NotResults,
    RemainingRows,
    ResultsFile,
    Resumption,
    Row,
    rows_of,
    run_file,
    sort_results,
    validate,
)
from claude_executor.bulk.input.sources import Record
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import Provenance, errored, hash_of, succeeded
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings

SLOW = Settings(rates=Rates(), latency=Latency(2.0, spread=0.8), output_tokens=Lengths(20))


def result(row: Row, error: str | None = None, params: object = None) -> bytes:
    """The line of a row that was answered, or failed in this way."""
    mark = Provenance(hash_of(row.params if params is None else params), 1.0)
    if error is None:
        return succeeded(row.custom_id, {"content": []}, row.extras, mark)
    body = {"type": "errored", "error": {"type": "error", "error": {"type": error, "message": "no"}}}
    return orjson.dumps({"custom_id": row.custom_id, "result": body, "executor": mark.as_dict()}) + b"\n"


def again(row: Row) -> bytes:
    """The line of a row that was answered once more."""
    return result(row).replace(b'"content":[]', b'"content":[1]')


@pytest.fixture
def planned(tmp_path):
    """Plan rows against result lines; the rest, and what is left of these when what is sent is answered."""
    path = tmp_path / "r.jsonl"

    def plan(rows: list[Row], options: dict[str, object], *, at_a_glance: bool) -> RemainingRows:
        with ResultsFile.open(path) as results:
            resumption = Resumption(results, **options)
            records = [
                (number, orjson.dumps({"custom_id": row.custom_id, "params": row.params, **row.extras}))
                for number, row in enumerate(rows)
            ]
            for number, _ in resumption.known.others(records) if at_a_glance else records:
                resumption.see(rows[number].custom_id, rows[number].params)
            made = resumption.planned()
            new = [again(row) for row, sends in zip(rows, made.sends, strict=True) if sends]
            with path.open("ab") as file:
                file.writelines(new)
            resumption.settle()
            settled = path.read_bytes()
            assert settled.endswith(b"".join(new))
            path.write_bytes(settled.removesuffix(b"".join(new)))
            return made

    def compare(rows: list[Row], lines: list[bytes], **options: object) -> tuple[RemainingRows, list[bytes]]:
        path.write_bytes(b"".join(lines))
        try:
            made = plan(rows, options, at_a_glance=False)
        finally:
            kept = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines))
        assert plan(rows, options, at_a_glance=True) == made
        assert path.read_bytes().splitlines(keepends=True) == kept
        return made, kept

    return compare


def test_only_a_row_that_is_as_it_was_sent_is_known_at_a_glance(some_rows, tmp_path):
    """In any order of its fields; not if it is another, lacks something, or has what no row may have."""
    params = dict(some_rows(1)[0].params)
    lacking = {name: value for name, value in params.items() if name != "max_tokens"}
    rows = [Row("a", params), Row("b", params), Row("c", lacking)]
    path = tmp_path / "r.jsonl"
    path.write_bytes(result(rows[0]) + result(rows[1], "invalid_request_error") + result(rows[2]))
    with ResultsFile.open(path) as results:

        def is_known(record: Record) -> bool:
            known = Resumption(results).known
            others = list(known.others([(1, record)]))
            assert len(others) + known.passed == 1
            return not others

        def known(custom_id: object, params: object, **beside: object) -> bool:
            return is_known(orjson.dumps({"custom_id": custom_id, "params": params, **beside}))

        assert known("a", params)
        assert known("a", dict(reversed(params.items())), own={"field": 1})
        assert not known("a", {**params, "max_tokens": 51})
        assert not known("b", params)  # it failed
        assert not known("c", lacking)  # whether it can be sent depends on the defaults
        assert not known("d", params)
        assert not known(["a"], params)
        assert not known("a", [])
        assert not any(known("a", params, **{odd: 1}) for odd in ("result", "executor", "body", "prompt"))
        assert not is_known(b"no JSON")
        assert not is_known({"custom_id": "a", "prompt": "…"})


@pytest.mark.parametrize("kind", [FailureKind.NOT_FOUND, FailureKind.PERMISSION])
def test_a_row_that_was_not_even_sent_is_sent_at_the_next_start(some_rows, planned, kind):
    """Another row has met a 404: that says nothing of this one for good."""
    row = some_rows(1)[0]
    line = errored(row.custom_id, Stopped("not sent", kind=kind), {}, Provenance(hash_of(row.params), 1.0))
    rest, _ = planned([row], [line])
    assert (rest.again, rest.failed) == (1, 0)


@pytest.mark.parametrize("on_changed", ["fail", "redo", "keep"])
def test_a_row_put_back_to_what_it_was_is_not_paid_for_again(some_rows, planned, on_changed):
    """Killed after it was sent anew, before that was settled: both answers are there, and one is wanted."""
    row = some_rows(1)[0]
    changed = Row(row.custom_id, {**row.params, "max_tokens": 51})
    lines = [result(row), result(changed)]
    rest, kept = planned([row], lines, on_changed=on_changed)
    assert (rest.answered, rest.redone, kept) == (1, 0, lines[:1])
    rest, kept = planned([changed], lines, on_changed=on_changed)
    assert (rest.answered, rest.redone, kept) == (1, 0, lines[1:])


@pytest.mark.parametrize("second", ["same", "changed"])
@pytest.mark.parametrize("order", [1, -1])
def test_an_id_that_comes_twice_is_found_though_its_row_is_done(some_rows, tmp_path, second, order):
    """Whether the other asks the same or something else, and whichever comes first."""
    rows = some_rows(3)
    changed = Row(rows[1].custom_id, {**rows[1].params, "max_tokens": 51})
    lines = [*rows, changed if second == "changed" else rows[1]][::order]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b"".join(orjson.dumps({"custom_id": row.custom_id, "params": row.params}) + b"\n" for row in lines)
    )
    target = tmp_path / "r.jsonl"
    target.write_bytes(b"".join(map(result, rows)))
    with ResultsFile.open(target) as results:
        resumption = Resumption(results, on_changed="redo")
        with pytest.raises(BadInput, match=f"'{rows[1].custom_id}' is already used by line"):
            validate(path, see=resumption.see, known=resumption.known)


def read_in_blocks(results: ResultsFile) -> list[tuple[object, ...]]:
    """What the lines say, read many at a time."""
    return [
        tuple(entry)
        for ids, hashes, entries in results.batches()
        for entry in entries or [(name, hash_, True, True) for name, hash_ in zip(ids, hashes, strict=True)]
    ]


@pytest.mark.parametrize(
    ("part", "odd"),
    [
        (b'-1"', b'\\n1"'),
        (b'-1"', b'\\"1"'),
        (b'-1"', '-ä"'.encode()),
        (7 * b"fade" + b"-1", b""),
        (b'"succeeded"', b'"canceled"'),
        (b'"custom_id":', b'"custom_id": '),
        (b'{"custom_id"', b'{"own":{"custom_id":"x","result":{"type":"succeeded"}},"custom_id"'),
        (b'"custom_id":', b'"own":{"custom_id":"x"},"custom_id":'),
        (b'"content":[]', b'"content":[{"custom_id":"x"}]'),
        (b',"executor":', b',"of":'),
        (b"\n", b"\r\n"),
    ],
)  # fmt: skip
def test_an_odd_line_among_answers_is_read_as_it_would_be_alone(some_rows, tmp_path, part, odd):
    """Whatever those who read many at a time do not expect."""
    lines = [result(Row(f"{7 * 'fade'}-{number}", row.params)) for number, row in enumerate(some_rows(3))]
    assert part in lines[1]
    lines[1] = lines[1].replace(part, odd)
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(lines))
    with ResultsFile.open(path) as results:
        found = read_in_blocks(results)
        assert found == [entry for _, entry in results.entries()]
        assert len(found) == 3


@pytest.mark.parametrize("sign", [b"0", b"-", b"f" * 16, b" " * 16])
@pytest.mark.parametrize("error", [None, "api_error"])
def test_a_hash_that_is_none_is_a_damaged_line(some_rows, tmp_path, sign, error):
    """Too long, negative, or no number: the line is told, however it is read."""
    lines = [result(row, error) for row in some_rows(3)]
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines[0] + lines[1].replace(b'"hash":"', b'"hash":"' + sign) + lines[2])
    with ResultsFile.open(path) as results:
        with pytest.raises(NotResults, match="line 2:"):
            list(results.entries())
        with pytest.raises(NotResults, match="line 2:"):
            Resumption(results)


@pytest.mark.parametrize("alone", [False, True])
def test_half_a_line_that_has_run_together_with_the_next_is_no_answer(some_rows, tmp_path, alone):
    """Neither of the two can be known to be there."""
    good, torn, whole = (result(row) for row in some_rows(3))
    path = tmp_path / "r.jsonl"
    path.write_bytes((b"" if alone else good) + torn[: torn.index(b"content") + 4] + whole)
    with ResultsFile.open(path) as results:
        with pytest.raises(NotResults, match=f"line {1 if alone else 2}:"):
            list(results.entries())
        with pytest.raises(NotResults, match=f"line {1 if alone else 2}:"):
            Resumption(results)


def test_a_line_that_only_looks_like_an_answer_is_none(some_rows, tmp_path):
    """Nothing but the name of its first field gives it away."""
    good, bad = (result(row) for row in some_rows(2))
    path = tmp_path / "r.jsonl"
    path.write_bytes(good + bad.replace(b"custom_id", b"custom_ix") + good)
    with ResultsFile.open(path) as results, pytest.raises(NotResults, match="line 2:"):
        read_in_blocks(results)


def test_results_read_in_blocks_are_those_read_line_by_line(some_rows, tmp_path):
    """Answers, failures, and lines that somebody else made, over many blocks."""
    chance = random.Random(1)
    path = tmp_path / "r.jsonl"
    lines = []
    for row in some_rows(3_000):
        odd = chance.random() < 0.001
        lines.append(result(row, "api_error" if odd else None))
        if chance.random() < 0.001:
            quoted = Row(f'"{row.custom_id}\n', row.params)
            lines.append(result(quoted))
            lines.append(
                orjson.dumps({"custom_id": f"other-{row.custom_id}", "result": {"type": "succeeded"}}) + b"\n"
            )
    path.write_bytes(b"".join(lines))
    with ResultsFile.open(path) as results:
        batches = list(results.batches())
        assert any(ids for ids, _, _ in batches)
        assert any(entries for _, _, entries in batches)
        found = read_in_blocks(results)
        assert found == [entry for _, entry in results.entries()]
        with path.open("ab") as file:
            file.write(b'{"custom_id":"x"}\n')
        with pytest.raises(NotResults, match=f"line {len(lines) + 1}:"):
            list(results.batches())


def test_what_is_answered_is_kept_and_what_failed_is_sent_again(some_rows, planned):
    """Answers and final failures stay; failures that may pass are taken out and sent again."""
    rows = some_rows(5)
    lines = [result(rows[0]), result(rows[1], "overloaded_error"), result(rows[2], "invalid_request_error")]
    rest, kept = planned(rows, lines)
    assert (rest.answered, rest.failed, rest.again, rest.to_do) == (1, 1, 1, 3)
    assert list(rest.sends) == [0, 1, 0, 1, 1]
    assert kept == [lines[0], lines[2]]


def test_failures_only(some_rows, planned):
    """On request all failures are sent again, and nothing else."""
    rows = some_rows(5)
    lines = [result(rows[0]), result(rows[1], "overloaded_error"), result(rows[2], "invalid_request_error")]
    rest, kept = planned(rows, lines, failures_only=True)
    assert (rest.answered, rest.again, rest.left_out, rest.to_do) == (1, 2, 2, 2)
    assert list(rest.sends) == [0, 1, 1, 0, 0]
    assert kept == [lines[0]]


def test_changed_rows_are_asked_about(some_rows, planned, tmp_path):
    """An answer to another question: nothing happens, and the first twenty are named."""
    rows = some_rows(40)
    lines = [result(row, params={"other": 1}) for row in rows[:30]]
    with pytest.raises(Changed, match=r"30 answered rows have changed since: row-0, row-1,.*and 10 more"):
        planned(rows, lines)
    assert (tmp_path / "r.jsonl").read_bytes() == b"".join(lines)


def test_changed_rows_are_sent_again_or_kept(some_rows, planned):
    """As told: the old answer goes, or it stays."""
    rows = some_rows(3)
    lines = [result(rows[0], params={"other": 1}), result(rows[1])]
    rest, kept = planned(rows, lines, on_changed="redo")
    assert (rest.redone, rest.answered, list(rest.sends), kept) == (1, 1, [1, 0, 1], [lines[1]])
    rest, kept = planned(rows, lines, on_changed="keep")
    assert (rest.redone, rest.answered, list(rest.sends), kept) == (0, 2, [0, 0, 1], lines)


def test_a_failed_row_that_was_mended_is_sent_without_asking(some_rows, planned):
    """A final failure of another question is no reason not to ask this one."""
    rows = some_rows(2)
    rest, kept = planned(rows, [result(rows[0], "invalid_request_error", params={"other": 1})])
    assert (rest.again, rest.failed, list(rest.sends), kept) == (1, 0, [1, 1], [])


def test_of_several_results_the_answer_is_kept(some_rows, planned):
    """Files that were put together by hand: one result a row, and the best."""
    rows = some_rows(3)
    lines = [
        result(rows[0], "overloaded_error"),
        result(rows[1]),
        result(rows[0]),
        result(rows[0]),
        result(rows[2], "invalid_request_error"),
        result(rows[2], "invalid_request_error"),
    ]
    rest, kept = planned(rows, lines)
    assert (rest.answered, rest.failed, rest.to_do) == (2, 1, 0)
    assert kept == [lines[1], lines[2], lines[4]]


def test_results_of_others_are_known_by_their_id(some_rows, planned):
    """Results without a hash, as Message Batches give them, are taken for what they say."""
    rows = some_rows(2)
    rest, _ = planned(rows, [b'{"custom_id":"row-1","result":{"type":"succeeded","message":{}}}\n'])
    assert list(rest.sends) == [1, 0]


def test_the_hash_is_that_of_the_content():
    """The order of keys does not matter, everything else does; what JSON can say can be hashed."""
    assert hash_of({"a": 1, "b": {"c": 2, "d": 3}}) == hash_of({"b": {"d": 3, "c": 2}, "a": 1})
    values = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"a": 2**70}, {"a": "\ud800"}, {"a": None}]
    assert len({hash_of(value) for value in values}) == len(values)


def test_an_index_is_a_dictionary():
    """Thousands of random keys, set twice and looked up, as a dictionary would have them."""
    chance = random.Random(1)
    index, expected = HashIndex(), {}
    for _ in range(20_000):
        key, value = hash(str(chance.randrange(9_000))), chance.getrandbits(64)
        index[key] = expected[key] = value
    assert len(index) == len(expected)
    assert all(index.get(key) == value for key, value in expected.items())
    assert not any(hash(f"no {number}") in index for number in range(1_000))


async def in_parts(begin, simulator, source, target, *, stop_after, ordered=False, **options):
    """Run a file, stopping after so many seconds; at the next start go on. How many starts it took."""
    starts = 0
    while True:
        starts += 1
        with ResultsFile.open(target) as results:
            resumption = Resumption(results)
            for row in map(orjson.loads, source.read_bytes().splitlines()):
                resumption.see(row["custom_id"], row["params"])
            rest = resumption.planned()
            if not rest.to_do:
                return starts
            run, executor = begin(simulator, rest.to_do, max_concurrency=20)
            async with executor:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(stop_after, run.stop)
                await run_file(source, results, executor=executor, run=run, rest=rest, **options)
                timer.cancel()
            resumption.settle()
            if ordered:
                sort_results(results, rows_of(source))


@pytest.mark.simulator(SLOW, faults=Faults(error_500=0.1))
async def test_over_many_starts_every_row_once(begin, some_rows, rows_in, simulator, tmp_path):
    """Stopped and started until the end: every row has one answer, and none was paid for twice."""
    target = tmp_path / "r.jsonl"
    starts = await in_parts(begin, simulator, rows_in(some_rows(200)), target, stop_after=6)
    assert starts > 3
    results = [orjson.loads(line) for line in target.read_bytes().splitlines()]
    assert sorted(result["place"] for result in results) == list(range(200))
    assert simulator.verdict().clean
    assert simulator.verdict().answered == 200


@pytest.mark.simulator(SLOW)
async def test_results_are_in_order_after_every_start(begin, some_rows, rows_in, simulator, tmp_path):
    """Ordered, over all starts; results of rows that are no longer there come last."""
    target = tmp_path / "r.jsonl"
    rows = some_rows(100)
    gone = Row("gone", {"model": "m"}, {"place": -1})
    target.write_bytes(result(gone) + result(rows[70]) + result(rows[50]))
    await in_parts(begin, simulator, rows_in(rows), target, stop_after=8, ordered=True)
    places = [orjson.loads(line)["place"] for line in target.read_bytes().splitlines()]
    assert places == [*range(100), -1]


def same(count: int, kinds: int) -> list[Row]:
    """Rows that ask one of so many questions."""
    return [
        Row(
            f"row-{number}",
            {
                "model": "claude-haiku-5-5",
                "max_tokens": 50,
                "messages": [{"role": "user", "content": f"Question {number % kinds}?"}],
            },
            {"place": number},
        )
        for number in range(count)
    ]


@pytest.mark.simulator(SLOW)
async def test_rows_that_ask_the_same_are_sent_once(begin, rows_in, simulator, tmp_path):
    """Each has a line of its own with the one answer; money is counted once; over two starts."""
    rows, target = same(300, 40), tmp_path / "r.jsonl"
    await in_parts(begin, simulator, rows_in(rows[:150]), target, stop_after=3, dedupe=True)
    assert simulator.verdict().requests == 40
    with ResultsFile.open(target) as results:
        resumption = Resumption(results)
        for row in rows:
            resumption.see(row.custom_id, row.params)
        rest = resumption.planned()
        run, executor = begin(simulator, rest.to_do)
        async with executor:
            await run_file(rows_in(rows), results, executor=executor, run=run, rest=rest, dedupe=True)
    assert simulator.verdict().requests == 40
    assert (run.counters.succeeded, run.counters.copies, run.counters.spent.output_tokens) == (150, 150, 0)
    lines = [orjson.loads(line) for line in target.read_bytes().splitlines()]
    assert sorted(line["place"] for line in lines) == list(range(300))
    assert len({line["result"]["message"]["id"] for line in lines}) == 40
    assert sum("copy_of" not in line["executor"] for line in lines) == 40
    of = {line["custom_id"]: line["executor"].get("copy_of") for line in lines}
    assert all(first is None or int(first[4:]) % 40 == int(name[4:]) % 40 for name, first in of.items())


@pytest.mark.parametrize("most_waiting", [10_000, 5])
@pytest.mark.simulator(SLOW)
async def test_what_is_asked_again_is_paid_once(
    begin, rows_in, simulator, tmp_path, monkeypatch, most_waiting
):
    """Whether the others wait for the answer or come when it is there: tokens are those of what was sent."""
    monkeypatch.setattr("claude_executor.bulk.run.dedupe.MOST_WAITING", most_waiting)
    run, executor = begin(simulator, 60)
    with ResultsFile.open(tmp_path / "r.jsonl") as results:
        async with executor:
            await run_file(rows_in(same(60, 3)), results, executor=executor, run=run, dedupe=True)
    assert simulator.verdict().requests == 3
    assert (run.counters.succeeded, run.counters.copies) == (60, 57)
    produced = sum(tokens["output"] for tokens in simulator.stats()["tokens"].values())
    assert run.counters.spent.output_tokens == produced


@pytest.mark.simulator(SLOW, faults=Faults(error_500=1.0))
async def test_the_failure_of_one_is_that_of_all_who_ask_the_same(
    begin, rows_in, simulator, tmp_path, monkeypatch
):
    """When the one that was sent fails, so have the others; and few wait at a time."""
    monkeypatch.setattr("claude_executor.bulk.run.dedupe.MOST_WAITING", 5)
    run, executor = begin(simulator, 30)
    target = tmp_path / "r.jsonl"
    with ResultsFile.open(target) as results:
        async with executor:
            await run_file(rows_in(same(30, 1)), results, executor=executor, run=run, dedupe=True)
    assert run.counters.failed == 30
    marks = [orjson.loads(line)["executor"] for line in target.read_bytes().splitlines()]
    assert (len(marks), sum("copy_of" in mark for mark in marks)) == (30, 25)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_new_failure_does_not_take_the_place_of_an_old_answer(some_rows, tmp_path, ordered):
    """It was paid for, and counts for its own request; a failure has the place of nothing but a failure."""
    rows = some_rows(3)
    old = [result(rows[2], "api_error"), result(rows[0], params={"other": 1}), result(rows[1], "api_error")]
    new = [again(rows[2]), result(rows[1], "overloaded_error"), result(rows[0], "invalid_request_error")]
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join(old))
    with ResultsFile.open(path) as results:
        resumption = Resumption(results, on_changed="redo")
        for row in rows:
            resumption.see(row.custom_id, row.params)
        assert resumption.planned().to_do == 3
        with path.open("ab") as file:
            file.writelines(new)
        resumption.settle()
        if ordered:
            sort_results(results, rows)
    kept = path.read_bytes().splitlines(keepends=True)
    assert kept == ([old[1], new[1], new[0]] if ordered else [old[1], new[0], new[1]])
