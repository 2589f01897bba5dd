"""A mapping of numbers to numbers for millions of entries: what is known of rows that are done.

Keys and values lie side by side in two arrays, in the order they came; a third, twice as long, holds their
places: open addressing with linear probing. An entry takes 24 to 40 bytes where a dictionary takes 130, which
is the difference between a run that fits beside other work and one that does not.
"""

from array import array
from collections.abc import Iterator, Sequence

_FIRST_SLOTS = 1_024
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class HashIndex:
    """Numbers of 64 bits by numbers of 64 bits. Keys must be spread evenly, as hashes are."""

    __slots__ = ("_keys", "_mask", "_places", "_values")

    def __init__(self) -> None:
        self._keys = array("Q")
        self._values = array("Q")
        self._places = array(
            "I", bytes(4 * _FIRST_SLOTS)
        )  # 1 + the place of the entry; 0 where there is none
        self._mask = _FIRST_SLOTS - 1

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __contains__(self, key: int) -> bool:
        return self.get(key) is not None

    def get(self, key: int) -> int | None:
        """The value of a key, if it has one."""
        place = self.offset_of(key)
        return None if place is None else self._values[place]

    def offset_of(self, key: int) -> int | None:
        """Where among `values` that of a key is, if it has one."""
        key &= _MASK
        places, keys, mask = self._places, self._keys, self._mask
        slot = key & mask
        while place := places[slot]:
            if keys[place - 1] == key:
                return place - 1
            slot = (slot + 1) & mask
        return None

    def __setitem__(self, key: int, value: int) -> None:
        if not self.add(key, value) and (place := self.offset_of(key)) is not None:
            self._values[place] = value

    def add(self, key: int, value: int) -> bool:
        """Set the value of a key that has none; `False` if it has one, which it keeps."""
        key &= _MASK
        places, keys, mask = self._places, self._keys, self._mask
        slot = key & mask
        while place := places[slot]:
            if keys[place - 1] == key:
                return False
            slot = (slot + 1) & mask
        keys.append(key)
        self._values.append(value)
        places[slot] = len(keys)
        if 2 * len(keys) > mask:
            self._grow()
        return True

    def fill(self, keys: "array[int]", values: "array[int]") -> bool:
        """Take over keys and their values, while it is empty; of a key that is repeated the last counts.

        Returns whether none is repeated.
        """
        self._keys, self._values = keys, values
        self._mask = max(_FIRST_SLOTS, 1 << (2 * len(keys)).bit_length()) - 1
        if self._find_places():
            return True
        self._keys, self._values, self._mask = array("Q"), array("Q"), _FIRST_SLOTS - 1
        self._find_places()
        for key, value in zip(keys, values, strict=True):
            self[key] = value
        return False

    def values(self) -> Sequence[int]:
        """The values, in the order in which the keys came."""
        return self._values

    def _grow(self) -> None:
        self._mask = 2 * self._mask + 1
        self._find_places()

    def _find_places(self) -> bool:
        """Put all keys in their places; `False`, and an index of no use, if one is repeated."""
        keys, mask = self._keys, self._mask
        del self._places  # before its successor is made: the two are the largest part
        self._places = places = array("I", bytes(4)) * (mask + 1)
        for place, key in enumerate(keys, start=1):
            slot = key & mask
            while other := places[slot]:
                if keys[other - 1] == key:
                    return False
                slot = (slot + 1) & mask
            places[slot] = place
        return True
