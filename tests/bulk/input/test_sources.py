"""Sources of rows: JSON lines and tables, compressed or not, files and pipes; each can be read again."""

import datetime as dt
import decimal
import gzip
import io
import os
import sys
import threading
import tracemalloc
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claude_executor.bulk import BadInput, RowDefaults, readable, rows_of, validate

DEFAULTS = RowDefaults("claude-haiku-5-5")
LINES = b'{"prompt": "One"}\n\n{"prompt": "Two", "mine": 2}\n'


def ids_of(source) -> list[str]:
    """Check a source, and read it once more."""
    rows = [row.custom_id for row in rows_of(source, DEFAULTS)]
    assert validate(source, DEFAULTS).rows == len(rows)
    return rows


def problems_of(source) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(BadInput) as caught:
        validate(source, DEFAULTS)
    assert "secret" not in str(caught.value)
    return [str(problem) for problem in caught.value.problems]


def table(path: Path, **columns: object) -> Path:
    """A Parquet file."""
    pq.write_table(pa.table(columns), path)
    return path


# ---- compressed


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_compressed_lines(tmp_path, name):
    """Compressed files are known by how they begin, not by what they are called."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES))
    assert ids_of(path) == ["line-1", "line-3"]


def test_damaged_compressed_file(tmp_path):
    """A download that was cut short is told as such, not as bad JSON."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINES * 1_000)[:-20])
    with pytest.raises(BadInput, match="damaged or cut short"):
        validate(path, DEFAULTS)


# ---- pipes


def test_standard_input_is_kept_until_the_end(monkeypatch):
    """It can be read twice, only its owner may, and nothing of it is left behind."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    with readable(Path("-")) as source:
        assert ids_of(source) == ["line-1", "line-3"]
        assert source.name == "standard input"
        assert source.path.parent.stat().st_mode & 0o077 == 0
    assert not source.path.parent.exists()


def test_problems_of_standard_input_have_its_name(monkeypatch):
    """Nobody knows the name of a temporary file."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n")))
    with readable(Path("-")) as source, pytest.raises(BadInput, match=r"^standard input: line 1: not JSON"):
        validate(source, DEFAULTS)


def test_a_named_pipe_is_read_once(tmp_path):
    """``run <(zcat rows.gz)`` names a pipe, which cannot be read again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(LINES,))
    writer.start()
    with readable(pipe) as source:
        writer.join()
        assert ids_of(source) == ["line-1", "line-3"]
        assert source.name == str(pipe)


def test_a_file_is_read_where_it_is(tmp_path):
    """Only what cannot be read twice is copied; what is not there is told when it is opened."""
    path = tmp_path / "a.jsonl"
    with readable(path) as source:
        assert source.path == path
        with pytest.raises(FileNotFoundError):
            validate(source)


def test_no_room_for_standard_input(monkeypatch):
    """A full disk is told with what to do."""

    class Full(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": Full()}))
    with pytest.raises(BadInput, match="no space left on device; set TMPDIR"), readable(Path("-")):
        pass


# ---- CSV


def csv_file(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A CSV file."""
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_columns(tmp_path):
    """Known columns are params, empty cells are none, other columns come back as text."""
    path = csv_file(
        tmp_path / "a.csv",
        "custom_id,prompt,model,max_tokens,system,place\r\n"
        'a,"Say ""hi"", or\nho",claude-opus-5-5,7,Be brief.,1\r\n'
        "\r\n"
        ",Zwei ü,,,,\r\n",
        "utf-8-sig",
    )
    first, second = rows_of(path, DEFAULTS)
    assert first.custom_id == "a"
    assert first.params == {
        "messages": [{"role": "user", "content": 'Say "hi", or\nho'}],
        "model": "claude-opus-5-5",
        "max_tokens": 7,
        "system": "Be brief.",
    }
    assert first.extras == {"place": "1"}
    assert second.custom_id == "line-5"
    assert second.params == {
        "messages": [{"role": "user", "content": "Zwei ü"}],
        "model": "claude-haiku-5-5",
        "max_tokens": 1024,
    }
    assert second.extras == {"place": ""}


def test_compressed_csv(tmp_path):
    """A compressed table is a table."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"prompt\nHello\n"))
    assert ids_of(path) == ["line-2"]


def test_csv_problems_are_told_by_the_line_they_begin_in(tmp_path):
    """Every bad row is told, also after one that spans lines, and what follows is still read."""
    path = csv_file(
        tmp_path / "a.csv",
        'prompt,custom_id,max_tokens\n"two\nlines",a,\nsecret,a,\nsecret,b,many\nsecret\n,c,\n'
        'secret "x"y,"d"e,\nsecret,f\xfc,\n',
        "latin-1",
    )
    assert problems_of(path) == [
        "line 4: 'custom_id' 'a' is already used by line 2",
        "line 5: 'max_tokens' must be a whole number",
        "line 6: 1 cells, but there are 3 columns",
        "line 7: 'prompt' must be a non-empty string, not an empty string",
        "line 8: not CSV: a quotation mark is not closed, not doubled, or a cell is too long",
        "line 9: not UTF-8; save the file as CSV in UTF-8",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("secret,x\nsecret,y\n", "no column named 'prompt' among the 2 of the first row"),
        ("id;prompt\ny;secret\n", "it looks semicolon-separated; save it with commas"),
        ("prompt;custom_id\nsecret;y\n", "it looks semicolon-separated; save it with commas"),
        ("id,Prompt\nsecret,y\n", "no column named 'prompt' among the 2 of the first row; rename 'Prompt'"),
        ("prompt,a,a\nsecret,1,2\n", "two columns have the same name"),
        ("prompt,result\nsecret,1\n", "the column name 'result' is reserved"),
        ("prompt,executor\nsecret,1\nsecret,2\n", "the column name 'executor' is reserved"),
        ("prompt\n", "no rows found"),
        ("", "no rows found"),
        ('"prompt\nsecret\n', "not CSV"),
    ],
)
def test_csv_that_is_no_table_of_rows(tmp_path, text, what):
    """One sentence for the whole file; a first row that may be a prompt is not quoted."""
    (problem,) = problems_of(csv_file(tmp_path / "a.csv", text))
    assert what in problem


def test_long_prompts_in_csv(tmp_path):
    """Python's own bound of 128 kB for a cell is not that of a prompt."""
    path = csv_file(tmp_path / "a.csv", "prompt\n" + "x" * 1_000_000 + "\n")
    assert ids_of(path) == ["line-2"]


def test_a_name_with_csv_in_the_middle_is_no_csv(tmp_path):
    """What was made from a table need not be one."""
    path = tmp_path / "table.csv.jsonl"
    path.write_bytes(LINES)
    assert ids_of(path) == ["line-1", "line-3"]


# ---- Parquet


def test_parquet_columns(tmp_path):
    """The columns of CSV, with their types; what JSON has no form for comes back as text."""
    path = table(
        tmp_path / "a.parquet",
        prompt=["One", "Two"],
        custom_id=[17, None],
        max_tokens=[7, None],
        system=pa.array(["Be brief.", None]).dictionary_encode(),
        score=[1.5, None],
        tags=[["a"], []],
        at=[dt.datetime(2026, 11, 22, 6, 30, tzinfo=dt.UTC), None],
        price=[decimal.Decimal("1.10"), None],
    )
    first, second = rows_of(path, DEFAULTS)
    assert (first.custom_id, second.custom_id) == ("17", "row-2")
    assert (first.params["max_tokens"], first.params["system"]) == (7, "Be brief.")
    assert "system" not in second.params
    assert second.params["max_tokens"] == 1024
    assert orjson.loads(orjson.dumps(first.extras)) == {
        "score": 1.5,
        "tags": ["a"],
        "at": "2026-11-22 06:30:00.000000Z",
        "price": "1.10",
    }
    assert validate(path, DEFAULTS).rows == 2


def test_parquet_problems_are_told_by_row(tmp_path):
    """Parquet has no lines: rows are counted from 1."""
    path = table(tmp_path / "a.parquet", prompt=["secret", None, "secret"], custom_id=["a", "b", "a"])
    assert problems_of(path) == [
        "row 2: 'prompt' must be a non-empty string, not nothing",
        "row 3: 'custom_id' 'a' is already used by row 1",
    ]


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"text": ["secret"]}, "no column named 'prompt'"),
        ({"prompt": ["x"], "raw": [b"secret"]}, "the column 'raw' has type binary, which JSON does not have"),
        ({"prompt": ["x"], "deep": [{"raw": b"secret"}]}, "the column 'deep' has type struct"),
        ({"prompt": pa.array([], pa.string())}, "no rows found"),
    ],
)
def test_parquet_that_is_no_table_of_rows(tmp_path, columns, what):
    """What cannot be given back is told before it is paid for."""
    (problem,) = problems_of(table(tmp_path / "a.parquet", **columns))
    assert what in problem


def test_damaged_parquet(tmp_path):
    """A file that only begins like Parquet."""
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(BadInput, match="damaged, or of an unsupported kind"):
        validate(path)


def test_without_pyarrow(tmp_path, monkeypatch):
    """The error names what to install."""
    path = table(tmp_path / "a.parquet", prompt=["x"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match="pip install pyarrow"):
        validate(path, DEFAULTS)


def test_large_parquet_takes_little_memory(tmp_path):
    """One row group of 50 MB is read in batches."""
    path = tmp_path / "a.parquet"
    prompts = pa.array([f"{number} " + "x" * 1_000 for number in range(50_000)])
    whole = {"row_group_size": 50_000, "compression": "none", "use_dictionary": False}
    pq.write_table(pa.table({"prompt": prompts}), path, **whole)
    del prompts
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        rows = rows_of(path, DEFAULTS)
        most = max(pa.total_allocated_bytes() for _ in rows) - before
        assert most < 20_000_000
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
