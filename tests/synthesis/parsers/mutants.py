"""Damaged copies of a report, seeded: what a full disk, a killed job, a bad copy or an editor does to a file."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

DAMAGES = (
    "truncate",
    "delete_line",
    "delete_lines",
    "delete_tag",
    "delete_column",
    "letters_for_digits",
    "garble_number",
    "empty_number",
    "other_number",
    "duplicate_block",
    "nul",
    "encoding",
    "swap_lines",
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")


def mutants(text: str, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """``count`` pairs (kind of damage, damaged text); a damage that changes nothing is drawn again."""
    rng = random.Random(seed)
    made = 0
    while made < count:
        damage = DAMAGES[made % len(DAMAGES)]
        for _ in range(20):
            changed = _damage(text, damage, rng)
            if changed != text:
                break
        made += 1
        if changed != text:
            yield damage, changed


def _damage(text: str, damage: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    numbers = list(_NUMBER.finditer(text))
    number = rng.choice(numbers)
    if damage == "truncate":
        return text[: rng.randrange(len(text))]
    if damage == "delete_line":
        return "\n".join(lines[:at] + lines[at + 1 :])
    if damage == "delete_lines":
        return "\n".join(lines[:at] + lines[at + rng.randrange(2, 12) :])
    if damage == "delete_tag":
        tags = list(re.finditer(r"<(/?)([\w.-]+)>[^<\n]*", text))
        if not tags:
            return "\n".join(lines[:at] + lines[at + 1 :])
        tag = rng.choice(tags)
        # The whole element where it holds a value, else the bare tag.
        whole = re.compile(rf"<{re.escape(tag[2])}>[^<]*</{re.escape(tag[2])}>\n?").match(text, tag.start())
        return text[: tag.start()] + text[(whole or tag).end() :]
    if damage == "delete_column":
        return _delete_column(lines, at)
    if damage == "letters_for_digits":
        spoiled = "".join(rng.choice("OlSBx") if rng.random() < 0.5 else char for char in number[0])
        return text[: number.start()] + spoiled + text[number.end() :]
    if damage == "garble_number":
        spoiled = rng.choice(("12a", "--", "1,234", "1_000", "nan", "-", "0x1F", "1e", "\u0661\u0662", "1 2", "7-"))
        return text[: number.start()] + spoiled + text[number.end() :]
    if damage == "empty_number":
        return text[: number.start()] + " " * rng.choice((0, len(number[0]))) + text[number.end() :]
    if damage == "other_number":
        return text[: number.start()] + str(rng.randrange(1, 10**6)) + text[number.end() :]
    if damage == "duplicate_block":
        end = min(len(lines), at + rng.randrange(1, 40))
        return "\n".join(lines[:end] + lines[at:end] + lines[end:])
    if damage == "nul":
        position = rng.randrange(len(text))
        return text[:position] + "\0" * rng.choice((1, 512)) + text[position:]
    if damage == "encoding":
        return text[: number.start()] + "�" + text[number.start() + 1 :]
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines)


def _delete_column(lines: list[str], at: int) -> str:
    """One column of the table around a line, in all its rows."""
    around = [i for i, line in enumerate(lines) if line.count("|") > 3]
    if not around:
        return "\n".join(lines)
    start = min(around, key=lambda i: abs(i - at))
    edges = [i for i, char in enumerate(lines[start]) if char == "|"]
    left, right = edges[len(edges) // 2 - 1], edges[len(edges) // 2]
    for i in range(start, len(lines)):
        if not lines[i].lstrip().startswith(("|", "+")):
            break
        lines[i] = lines[i][:left] + lines[i][right:]
    for i in range(start - 1, -1, -1):
        if not lines[i].lstrip().startswith(("|", "+")):
            break
        lines[i] = lines[i][:left] + lines[i][right:]
    return "\n".join(lines)
