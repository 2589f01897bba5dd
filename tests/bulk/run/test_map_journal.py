"""`Executor.map` with a journal: what is answered is not sent again, whatever happens in between."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_executor import Executor
from claude_executor.bulk import FileBusy, Journal, NotResults, ResultsFile
from claude_executor.bulk.results.line import ResultEntry
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings
from claude_executor.testing import loop_time, simulated_client

SLOW = Settings(rates=Rates(), latency=Latency(2.0, spread=0.8), output_tokens=Lengths(20))


def prompt(text: str) -> dict:
    """A request."""
    return {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": text}]}


@pytest.fixture
def executor(simulator):
    """An executor on the simulator, not yet entered."""
    return lambda **options: Executor(client=simulated_client(simulator), clock=loop_time, **options)


@pytest.fixture
def path(tmp_path):
    """Where the journal is."""
    return tmp_path / "answers.jsonl"


def text_of(result) -> str:
    """An answer."""
    assert result.message is not None, result.error
    return result.message.content[0].text


@pytest.mark.simulator(SLOW)
async def test_a_second_call_sends_only_what_is_new(executor, simulator, path):
    """Prompts may be reordered, added and taken away; answers are found by what was asked."""
    async with executor() as one:
        first = {r.index: text_of(r) async for r in one.map(map(prompt, "abc"), journal=Journal(path))}
        second = {r.index: r async for r in one.map(map(prompt, "xcab"), journal=Journal(path))}
    assert {index: text_of(second[place]) for index, place in ((0, 2), (1, 3), (2, 1))} == first
    assert simulator.verdict().requests == 4
    assert second[0].attempts == 1
    assert second[1].attempts is None
    assert second[1].message.usage.output_tokens > 0
    assert second[1].params == prompt("c")


@pytest.mark.simulator(SLOW)
async def test_results_are_on_disk_before_they_are_yielded(executor, path):
    """Whoever has seen a result can rely on it."""
    async with executor(max_concurrency=5) as one:
        seen = 0
        async for _ in one.map((prompt(f"{n}") for n in range(30)), journal=Journal(path)):
            seen += 1
            assert len(path.read_bytes().splitlines()) >= seen


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.simulator(SLOW)
async def test_left_in_the_middle(executor, simulator, path, ordered):
    """A consumer that goes away: what has been answered is there for the next."""
    prompts = [prompt(f"{n}") for n in range(100)]
    async with executor(max_concurrency=10) as one:
        results = one.map(prompts, journal=Journal(path), ordered=ordered)
        async for result in results:
            if result.index >= 20:
                break
        while simulator.verdict().answered == len(path.read_bytes().splitlines()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # until one is answered and not yet written
        await results.aclose()
        before = len(path.read_bytes().splitlines())
        assert before == simulator.verdict().answered
        order = [result.index async for result in one.map(prompts, journal=Journal(path), ordered=ordered)]
    assert sorted(order) == list(range(100))
    assert not ordered or order == sorted(order)
    assert simulator.verdict().duplicates == 0
    assert simulator.verdict().answered == 100


@pytest.mark.simulator(SLOW)
async def test_equal_prompts_have_an_answer_each(executor, simulator, path):
    """A prompt that is asked five times has five answers, and the sixth is sent."""
    async with executor() as one:
        first = [r async for r in one.map([prompt("a")] * 5, journal=Journal(path))]
        second = [r async for r in one.map([prompt("a")] * 6, journal=Journal(path))]
    assert len({r.message.id for r in first}) == 5
    assert Counter(r.message.id for r in second) > Counter(r.message.id for r in first)
    assert simulator.verdict().requests == 6


@pytest.mark.simulator(Settings(rates=Rates()), faults=Faults(permission_403=True))
async def test_failures_are_sent_again(executor, simulator, path):
    """Only answers are kept."""
    async with executor() as one:
        assert all([r.error async for r in one.map(map(prompt, "ab"), journal=Journal(path))])
    simulator.set_faults(permission_403=False)
    async with executor() as one:
        assert all([r.message async for r in one.map(map(prompt, "ab"), journal=Journal(path))])


@pytest.mark.simulator(SLOW)
async def test_answers_may_be_part_of_the_next_question(executor, path):
    """The SDK's own objects in a request are no hindrance; what cannot be said in JSON is a bad row."""
    async with executor() as one:
        answer = await one.submit(prompt("a"))
        again = prompt("b")
        again["messages"] += [
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": "?"},
        ]
        for _ in range(2):
            results = {r.index: r async for r in one.map([again, {"a": object()}], journal=Journal(path))}
            assert results[0].message
            assert isinstance(results[1].error, TypeError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.simulator(SLOW)
async def test_what_cannot_be_kept_is_not_yielded(executor, simulator):
    """A full disk ends the map, and leaves nothing behind."""
    async with executor(max_concurrency=5) as one:
        results = one.map((prompt(f"{n}") for n in range(100)), journal=Journal("/dev/full"))
        with pytest.raises(OSError, match="No space left"):
            await anext(results)
        assert "[queued 0 | running 0 |" in repr(one)
    assert simulator.verdict().requests < 30
    assert len(asyncio.all_tasks()) == 1


async def test_a_file_of_something_else_is_refused(executor, path):
    """Nothing is sent, and nothing overwritten."""
    path.write_text("precious\n")
    async with executor() as one:
        with pytest.raises(NotResults):
            await anext(one.map([prompt("a")], journal=Journal(path)))
    assert path.read_text() == "precious\n"


@pytest.mark.parametrize("done", [False, True], ids=["while it opens", "when it has opened"])
async def test_who_is_cancelled_while_it_opens_leaves_no_lock(path, monkeypatch, done):
    """The thread that opens the file cannot be cancelled: it closes it again, or that is done for it."""
    line = b'{"custom_id":"%d","result":{"type":"succeeded","message":{}},"executor":{"hash":"0","at":1}}\n'
    path.write_bytes(b"".join(line % number for number in range(3)))
    reached, go_on, over = threading.Event(), threading.Event(), threading.Event()
    open_, entries = Journal._open, ResultsFile.entries

    def slowly(results: ResultsFile) -> Iterator[tuple[int, ResultEntry]]:
        reached.set()
        go_on.wait()
        return entries(results)

    def to_the_end(journal: Journal, opening: object) -> None:
        open_(journal, opening)
        if done:
            reached.set()
            go_on.wait()
        over.set()

    monkeypatch.setattr(Journal, "_open", to_the_end)
    if not done:
        monkeypatch.setattr(ResultsFile, "entries", slowly)
    entering = asyncio.create_task(Journal(path).__aenter__())
    await asyncio.to_thread(reached.wait)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    go_on.set()
    await asyncio.to_thread(over.wait)
    ResultsFile.open(path).close()


@pytest.mark.simulator(SLOW)
async def test_one_at_a_time(executor, path):
    """Two maps on one journal: the second is refused."""
    async with executor() as one:
        first = one.map(map(prompt, "ab"), journal=Journal(path))
        await anext(first)
        with pytest.raises(FileBusy):
            await anext(one.map([prompt("a")], journal=Journal(path)))
        assert len([r async for r in first]) == 1


@pytest.mark.simulator(SLOW)
async def test_a_journal_that_is_used_twice_sends_nothing_twice(executor, simulator, path):
    """The same object may be given to one call after another."""
    journal = Journal(path)
    async with executor() as one:
        first = {r.index: text_of(r) async for r in one.map(map(prompt, "aabc"), journal=journal)}
        second = {r.index: text_of(r) async for r in one.map(map(prompt, "aabcd"), journal=journal)}
    assert {index: second[index] for index in first} == first
    assert simulator.verdict().requests == 5


@pytest.mark.simulator(SLOW)
async def test_an_answer_that_is_damaged_is_told_with_its_line(executor, simulator, path):
    """It is neither sent again nor taken for a failure of the prompt."""
    async with executor() as one:
        assert len([r async for r in one.map(map(prompt, "ab"), journal=Journal(path))]) == 2
        first, second = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first + second.replace(b'"message":{', b'"message":{{'))
        with pytest.raises(NotResults, match="line 2: it is damaged"):
            [r async for r in one.map(map(prompt, "ab"), journal=Journal(path))]
    assert simulator.verdict().requests == 2
