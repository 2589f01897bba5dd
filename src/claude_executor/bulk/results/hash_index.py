"""A mapping of numbers to numbers for millions of entries, such as the rows that are done.

Keys and values are stored in two arrays, in the order of insertion. A third array is the hash table: it holds
their indexes, with open addressing and linear probing. An entry takes 24 to 40 bytes where a dictionary takes
130, so a run of a million rows fits beside other work.
"""

from array import array
from collections.abc import Iterator, Sequence

_FIRST_SLOTS = 1_024
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class HashIndex:
    """Maps 64-bit numbers to 64-bit numbers. Keys must be spread evenly, as hashes are."""

    __slots__ = ("_keys", "_mask", "_table", "_values")

    def __init__(self) -> None:
        self._keys = array("Q")
        self._values = array("Q")
        self._table = array("I", bytes(4 * _FIRST_SLOTS))  # 1 + the index of the entry; 0 where there is none
        self._mask = _FIRST_SLOTS - 1

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __contains__(self, key: int) -> bool:
        return self.get(key) is not None

    def get(self, key: int) -> int | None:
        """Return the value of a key, if it has one."""
        index = self.offset_of(key)
        return None if index is None else self._values[index]

    def offset_of(self, key: int) -> int | None:
        """Return the index of a key's value among `values`, if the key has one."""
        key &= _MASK
        table, keys, mask = self._table, self._keys, self._mask
        slot = key & mask
        while entry := table[slot]:
            if keys[entry - 1] == key:
                return entry - 1
            slot = (slot + 1) & mask
        return None

    def __setitem__(self, key: int, value: int) -> None:
        if not self.add(key, value) and (index := self.offset_of(key)) is not None:
            self._values[index] = value

    def add(self, key: int, value: int) -> bool:
        """Set the value of a key that has none. A key that has one keeps it, and False is returned."""
        key &= _MASK
        table, keys, mask = self._table, self._keys, self._mask
        slot = key & mask
        while entry := table[slot]:
            if keys[entry - 1] == key:
                return False
            slot = (slot + 1) & mask
        keys.append(key)
        self._values.append(value)
        table[slot] = len(keys)
        if 2 * len(keys) > mask:
            self._grow()
        return True

    def fill(self, keys: "array[int]", values: "array[int]") -> bool:
        """Take over all keys and values at once, while the index is empty.

        Returns:
            Whether no key is repeated. Of a repeated key the last value counts.
        """
        self._keys, self._values = keys, values
        self._mask = max(_FIRST_SLOTS, 1 << (2 * len(keys)).bit_length()) - 1
        if self._build_table():
            return True
        self._keys, self._values, self._mask = array("Q"), array("Q"), _FIRST_SLOTS - 1
        self._build_table()
        for key, value in zip(keys, values, strict=True):
            self[key] = value
        return False

    def values(self) -> Sequence[int]:
        """Return the values, in the order in which their keys were added."""
        return self._values

    def _grow(self) -> None:
        self._mask = 2 * self._mask + 1
        self._build_table()

    def _build_table(self) -> bool:
        """Enter all keys in a new table. Returns False, and leaves the index unusable, if one is repeated."""
        keys, mask = self._keys, self._mask
        del self._table  # before the next one is allocated: it is the largest of the three arrays
        self._table = table = array("I", bytes(4)) * (mask + 1)
        for entry, key in enumerate(keys, start=1):
            slot = key & mask
            while other := table[slot]:
                if keys[other - 1] == key:
                    return False
                slot = (slot + 1) & mask
            table[slot] = entry
        return True
