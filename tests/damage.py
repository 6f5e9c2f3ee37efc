"""Damage to the bytes of a file, for fuzz tests of any format."""

from __future__ import annotations

import random


def damaged(content: bytes, chance: random.Random, first: int = 0, end: int | None = None) -> bytes:
    """Bytes changed, cut out or doubled in one to four places within first..end, sometimes all that follows lost."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        last = min(len(found), end or len(found))
        at = chance.randrange(min(first, last - 1), last)
        match chance.randrange(7):
            case 0 | 1:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 2 | 3:
                del found[at : at + chance.randint(1, 20)]
            case 4 | 5:
                found[at:at] = found[at : at + chance.randint(1, 20)]
            case _:
                del found[max(at, 200) :]
    return bytes(found)
