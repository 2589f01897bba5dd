"""Rows of tables: CSV and Parquet files with a column for each field. Only `prompt` is required.

Empty cells of `custom_id`, `model`, `max_tokens` and `system` count as missing. All other columns are the
user's own. They come back as text from CSV and as values from Parquet; dates, times and decimals, which JSON
does not have, come back as text.
"""

import csv
import importlib
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from claude_executor.bulk.input.problems import BadInput, BadRow, RowProblem

PROMPT = "prompt"
CELL_BYTES = 32 << 20
"""The longest cell of a CSV file; the API takes no longer requests."""
BATCH_ROWS = 1_000
BUFFER_BYTES = 1 << 16

_SEPARATORS = {";": "semicolon", "\t": "tab", "|": "pipe"}
_OPTIONAL = ("custom_id", "model", "max_tokens", "system")
_OF_LINES = ("params", "body", "result", "executor")


def csv_records(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, object] | BadRow]]:
    """Read the rows of a CSV file, each with the number of its first line.

    Raises:
        BadInput: The columns are not valid.
    """
    csv.field_size_limit(max(csv.field_size_limit(), CELL_BYTES))  # Python's default is 128 kB
    text = _Text(file)
    reader = csv.reader(text, strict=True)
    columns: list[str] | None = None
    while True:
        begins = reader.line_num + 1
        cells: list[str] | None
        try:
            cells = next(reader, None)
            broken = None
        except csv.Error:
            cells = []
            broken = BadRow("not CSV: a quotation mark is not closed, not doubled, or a cell is too long")
        if cells is None:
            return
        if text.garbled:
            text.garbled = False
            broken = BadRow("not UTF-8; save the file as CSV in UTF-8")
        if columns is None:
            if broken is not None:
                raise BadInput(name, [RowProblem(begins, str(broken))], 1)
            if cells:
                columns = cells
                _check_columns(columns, name)
        elif broken is not None:
            yield begins, broken
        elif cells:
            yield begins, _fields(columns, cells)


class _Text:
    """Lines of a file as text. A line that is not UTF-8 sets `garbled` instead of ending the file."""

    def __init__(self, file: Iterable[bytes]) -> None:
        self.garbled = False
        self._lines = iter(file)
        self._encoding = "utf-8-sig"

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        encoding, self._encoding = self._encoding, "utf-8"
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            self.garbled = True
            return line.decode(encoding, "replace")


def _fields(columns: Sequence[str], cells: Sequence[str]) -> dict[str, object] | BadRow:
    if len(cells) != len(columns):
        return BadRow(f"{len(cells)} cells, but there are {len(columns)} columns")
    fields: dict[str, object] = dict(zip(columns, cells, strict=True))
    for name in _OPTIONAL:
        if fields.get(name) == "":
            del fields[name]
    most = fields.get("max_tokens")
    if isinstance(most, str):
        try:
            fields["max_tokens"] = int(most)
        except ValueError:
            return BadRow("'max_tokens' must be a whole number")
    return fields


def _check_columns(columns: Sequence[str], name: str) -> None:
    what = None
    if PROMPT not in columns:
        # The columns are not listed: if the header is missing, they are prompts.
        what = f"no column named 'prompt' among the {len(columns)} of the first row"
        separator = next((name for sign, name in _SEPARATORS.items() if sign in columns[0]), "")
        if len(columns) == 1 and separator:
            what += f"; it looks {separator}-separated; save it with commas"
        elif close := get_close_matches(PROMPT, [column.strip().lower() for column in columns], 1, 0.75):
            misspelled = next(column for column in columns if column.strip().lower() == close[0])
            what += f"; rename {misspelled!r}"
        elif len(columns) == 1:
            what += "; save it with commas"
    elif len(set(columns)) < len(columns):
        what = "two columns have the same name; rename one of them"
    else:
        kept = [column for column in _OF_LINES if column in columns]
        if kept:
            what = f"the column name {kept[0]!r} is reserved; rename it"
    if what is not None:
        raise BadInput(name, [RowProblem(0, what)], 1)


def parquet_records(path: Path, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Read the rows of a Parquet file, numbered from 1, in batches.

    Raises:
        BadInput: The file is damaged, the columns are not valid, or pyarrow is not installed.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        what = "reading Parquet needs pyarrow: pip install pyarrow"
        raise BadInput(name, [RowProblem(0, what)], 1) from error
    try:
        # Without buffer_size, whole columns of a row group are in memory, however large.
        with parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
            _check_columns(file.schema_arrow.names, name)
            plain = _as_json(file.schema_arrow, arrow, name)
            number = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for fields in batch.cast(plain).to_pylist():
                    number += 1
                    yield number, fields
    except arrow.ArrowException as error:
        what = "the Parquet file is damaged, or of an unsupported kind; write it again"
        raise BadInput(name, [RowProblem(0, what)], 1) from error


def _as_json(schema: Any, arrow: Any, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the schema with types that JSON has."""
    types = arrow.types
    plain: list[Any] = []
    for column in schema:
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        wrong = not _has_json(kind, types)
        if (column.name == "custom_id" and types.is_integer(kind)) or (
            wrong and (types.is_decimal(kind) or types.is_temporal(kind)) and not types.is_duration(kind)
        ):
            kind, wrong = arrow.string(), False
        if wrong:
            what = f"the column {column.name!r} has type {kind}, which JSON does not have; cast or drop it"
            raise BadInput(name, [RowProblem(0, what)], 1)
        plain.append(arrow.field(column.name, kind))
    return arrow.schema(plain)


def _has_json(kind: Any, types: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _has_json(kind.value_type, types)
    if types.is_struct(kind):
        return all(_has_json(kind.field(at).type, types) for at in range(kind.num_fields))
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    number = types.is_integer(kind) or types.is_floating(kind)
    return bool(text or number or types.is_boolean(kind) or types.is_null(kind))
