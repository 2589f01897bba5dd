"""Reading rows, and saying what is wrong with a file before anything is sent."""

import json
import tracemalloc
from pathlib import Path

import pytest

from claude_executor.bulk import BadInput, BadRow, Row, RowDefaults, read_row, rows_of, validate
from claude_executor.bulk.results.hash_index import HashIndex
from claude_executor.bulk.results.line import hash_of
from claude_executor.bulk.run.unchanged import UnchangedRows

MESSAGES = [{"role": "user", "content": "the secret prompt"}]
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 10, "messages": MESSAGES}


def line(**value: object) -> bytes:
    """One line of a file."""
    return json.dumps(value).encode()


def params(**changes: object) -> bytes:
    """A Message Batches line with some params changed; None takes one away."""
    changed = {name: value for name, value in {**PARAMS, **changes}.items() if value is not None}
    return line(custom_id="a", params=changed)


def written(path: Path, *lines: bytes) -> Path:
    """A file of those lines."""
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_reads_message_batches_shape():
    """A Message Batches line is a row, and what else it holds comes along."""
    row = read_row(line(custom_id="a", params=PARAMS, mine=[1]), 1)
    assert row == Row("a", PARAMS, {"mine": [1]})


def test_reads_openai_batch_shape():
    """An OpenAI batch line with a Messages body is a row; method and url do not come back."""
    row = read_row(line(custom_id="a", method="POST", url="/v1/messages", body=PARAMS, mine=1), 1)
    assert row == Row("a", PARAMS, {"mine": 1})


def test_reads_bare_prompt():
    """A prompt becomes a message to the default model, named after its line."""
    row = read_row(line(prompt="Hello", topic="x"), 7, RowDefaults("claude-opus-5"))
    assert row.custom_id == "line-7"
    assert row.params == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "claude-opus-5",
        "max_tokens": 1024,
    }
    assert row.extras == {"topic": "x"}


def test_prompt_with_params_of_its_own():
    """Model, max_tokens and system beside a prompt are used, not given back as the user's own."""
    row = read_row(line(prompt="Hello", model="m", max_tokens=7, system="Be brief.", mine=1), 1)
    assert row.params == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "m",
        "max_tokens": 7,
        "system": "Be brief.",
    }
    assert row.extras == {"mine": 1}


def test_defaults_do_not_override():
    """What a line says itself is left as it is."""
    row = read_row(params(), 1, RowDefaults("other", 99))
    assert row.params == PARAMS


def test_defaults_fill_what_is_missing():
    """Model and max_tokens from the command line go to lines without them."""
    row = read_row(params(model=None, max_tokens=None), 1, RowDefaults("other", 99))
    assert (row.params["model"], row.params["max_tokens"]) == ("other", 99)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"nonsense", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "a row must be an object, not a list"),
        (line(custom_id="a"), "exactly one of 'params', 'body' and 'prompt'; found none of them"),
        (line(promt="x"), "found none of them, but 'promt'; did you mean 'prompt'?"),
        (b"[", "not JSON"),
        (b"[1]", "if the file is one JSON array, convert it: jq -c '.[]' FILE > FILE.jsonl"),
        (line(custom_id="a", params=PARAMS, prompt="x"), "found 'params' and 'prompt'"),
        (line(custom_id="a", params=[]), "'params' must be an object, not an empty list"),
        (line(params=PARAMS), "no 'custom_id'; add one"),
        (line(custom_id="", params=PARAMS), "not an empty string"),
        (line(custom_id=7, params=PARAMS), "'custom_id' must be a non-empty string"),
        (line(custom_id="x" * 65, params=PARAMS), "65 characters; at most 64"),
        (line(custom_id="a", method="GET", body=PARAMS), "'method' must be \"POST\""),
        (line(custom_id="a", url="/v1/responses", body=PARAMS), "'url' must be \"/v1/messages\""),
        (line(custom_id="a", url=["/v1/messages"], body=PARAMS), "'url' must be \"/v1/messages\""),
        (line(custom_id="a", body="x"), "'body' must be an object, not a string"),
        (line(prompt=""), "'prompt' must be a non-empty string"),
        (line(prompt=" \n"), "not an empty string"),
        (line(prompt="x", model="m", system=5), "'system' must be a string or a list of blocks, not 5"),
        (line(prompt="x"), "no 'model'; add it, or set one for all rows with -m"),
        (params(model=None), "no 'model'"),
        (params(model=5), "no 'model'"),
        (params(max_tokens=None), "no 'max_tokens'; add it, or set one for all rows with --max-tokens"),
        (params(max_tokens="10"), "'max_tokens' must be a whole number, 0 or more, not a string"),
        (params(max_tokens=-1), "0 or more, not -1"),
        (params(max_tokens=True), "not true or false"),
        (params(messages=None), "'messages' must be a list with at least one message, not nothing"),
        (params(messages=[]), "not an empty list"),
        (params(messages="hello"), "not a string"),
        (params(messages=["hello"]), "message 1 must be an object, not a string"),
        (params(messages=[{"content": "x"}]), "message 1 must have a 'role'"),
        (params(messages=[*MESSAGES, {"role": "user"}]), "message 2 must have a 'content'"),
        (params(stream=True), "remove 'stream'"),
        (params(system={"a": 1}), "'system' must be a string or a list of blocks, not an object"),
        (params(messages=[{"role": "system", "content": "x"}]), "only system messages"),
        (params(system="x", messages=[{"role": "system", "content": "x"}, *MESSAGES]), "put both into"),
        (line(custom_id="a", params=PARAMS, result={}), "is this a results file?"),
    ],
)
def test_says_what_is_wrong_with_a_line(raw, what):
    """Every mistake is named in words, and none of the content is."""
    with pytest.raises(BadRow) as caught:
        read_row(raw, 1)
    assert what in str(caught.value)
    assert "secret" not in str(caught.value)


def test_survey_counts_rows_and_models(tmp_path):
    """A good file is surveyed; blank lines and a byte order mark are nobody's mistake."""
    path = written(
        tmp_path / "a.jsonl",
        b"\xef\xbb\xbf" + line(custom_id="a", params=PARAMS),
        b"   ",
        line(custom_id="b", params={**PARAMS, "model": "other"}),
    )
    survey = validate(path)
    assert (survey.rows, survey.models) == (2, {"claude-haiku-5-5", "other"})
    assert [row.custom_id for row in rows_of(path)] == ["a", "b"]


def test_what_is_known_is_neither_checked_nor_seen_but_counted(tmp_path):
    """And its model is one that the file asks for, like those of the others."""
    lines = [line(custom_id=name, params={**PARAMS, "model": f"m-{name}"}) for name in "abc"]
    path = written(tmp_path / "a.jsonl", *lines)
    answered, sends, seen = HashIndex(), bytearray(), list[str]()
    answered[hash("b")] = hash_of({**PARAMS, "model": "m-b"})
    known = UnchangedRows(answered, sends)
    survey = validate(path, see=lambda custom_id, params: seen.append(custom_id), known=known)
    assert (survey.rows, survey.models, seen) == (3, {"m-a", "m-b", "m-c"}, ["a", "c"])
    assert (known.passed, sends) == (1, b"\0")


def test_empty_file_is_bad_input(tmp_path):
    """Nothing to do is told, not done in silence."""
    with pytest.raises(BadInput, match="no rows found"):
        validate(written(tmp_path / "a.jsonl"))


def test_duplicates_are_found_wherever_they_are(tmp_path):
    """A second line with the same id is told with the number of the first."""
    lines = [line(custom_id=f"r{number}", params=PARAMS) for number in range(500)]
    path = written(tmp_path / "a.jsonl", *lines, lines[17], lines[17])
    with pytest.raises(BadInput) as caught:
        validate(path)
    assert [str(problem) for problem in caught.value.problems] == [
        "line 501 and 1 more: 'custom_id' 'r17' is already used by line 18",
    ]


def test_first_twenty_problems_and_a_count(tmp_path):
    """A file full of mistakes gives twenty of them in order, and the number of the others."""
    long = [line(custom_id="x" * (65 + number), params=PARAMS) for number in range(50)]
    path = written(tmp_path / "a.jsonl", *long, params(), params())
    with pytest.raises(BadInput) as caught:
        validate(path)
    assert caught.value.count == 51
    assert [problem.line for problem in caught.value.problems] == list(range(1, 21))
    assert str(caught.value).endswith("a.jsonl: and 31 more problems")


def test_one_problem_more_stood_in_the_plural(tmp_path):
    """Twenty are told, and there is one more."""
    long = [line(custom_id="x" * (65 + number), params=PARAMS) for number in range(21)]
    with pytest.raises(BadInput, match=r"and 1 more problem$"):
        validate(written(tmp_path / "a.jsonl", *long))


def test_equal_problems_were_told_line_by_line(tmp_path):
    """One sentence with the first line and the number of the others; it hides no other problem."""
    bare = line(custom_id="a", params={"max_tokens": 1, "messages": MESSAGES})
    with pytest.raises(BadInput) as caught:
        validate(written(tmp_path / "a.jsonl", params(), *[bare] * 30, line(custom_id="b"), bare))
    assert caught.value.count == 32
    first, second = map(str, caught.value.problems)
    assert first == "line 2 and 30 more: no 'model'; add it, or set one for all rows with -m"
    assert second.startswith("line 32: a row needs exactly one of")
    assert str(caught.value).count("\n") == 1


def test_a_results_file_was_not_recognised(tmp_path):
    """Results have none of the three shapes: that they may be results is told all the same."""
    lines = [
        line(custom_id=f"r{number}", result={"type": "succeeded", "message": {}}, executor={"attempts": 1})
        for number in range(200)
    ]
    with pytest.raises(BadInput) as caught:
        validate(written(tmp_path / "a.results.jsonl", *lines))
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith("line 1 and 199 more: ")
    assert problem.endswith("is this a results file?")


@pytest.mark.parametrize(("text", "hint"), [(b"prompt,topic\n1,2\n", True), (b'{"prompt": \n1}\n', False)])
def test_a_table_by_another_name_was_only_not_json(tmp_path, text, hint):
    """Through a pipe, as .tsv or .txt: it is told what to call it. Broken JSON is no table."""
    path = tmp_path / "a.txt"
    path.write_bytes(text)
    with pytest.raises(BadInput) as caught:
        validate(path)
    assert ["named .csv" in str(problem) for problem in caught.value.problems] == [hint, False][
        : len(caught.value.problems)
    ]


@pytest.mark.parametrize("defaults", [RowDefaults("m", 0), RowDefaults("m")])
def test_no_tokens_at_all_may_be_asked_for(defaults):
    """``max_tokens: 0`` fills the prompt cache and answers nothing."""
    assert read_row(line(prompt="Hello"), 1, defaults).params["max_tokens"] == (
        0 if defaults.max_tokens == 0 else 1024
    )
    assert read_row(params(max_tokens=0), 1, defaults).params["max_tokens"] == 0


def test_duplicates_among_many_rows(tmp_path):
    """Ids are told apart even where there are more of them than drawers; only the equal ones are told."""
    lines = [line(custom_id=f"r{number}", params=PARAMS) for number in range(5_000)]
    with pytest.raises(BadInput) as caught:
        validate(written(tmp_path / "a.jsonl", *lines, lines[4_321]))
    assert [problem.line for problem in caught.value.problems] == [5_001]


def test_file_changed_between_the_passes(tmp_path):
    """A file that goes bad after the check is told as such."""
    path = written(tmp_path / "a.jsonl", params(), b"x")
    rows = rows_of(path)
    next(rows)
    with pytest.raises(BadInput, match=r"line 2: not JSON .*the file was changed"):
        next(rows)


def test_checking_takes_little_memory(tmp_path):
    """Twenty thousand rows cost the hashes of their ids and hardly more."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        for number in range(20_000):
            file.write(b'{"custom_id":"r%d","prompt":"%s"}\n' % (number, b"x" * 200))
    tracemalloc.start()
    try:
        assert validate(path, RowDefaults("m")).rows == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
