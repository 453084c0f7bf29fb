"""XML reports of the HLS compilers: safe parsing, and entries looked up so that errors name file and section."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from trigger_prune.errors import ReportFormatError
from trigger_prune.synthesis.parsers import values
from trigger_prune.synthesis.parsers.text import require_text

# No report declares a document type; entity declarations are how a few bytes grow to gigabytes.
_DECLARATION = re.compile(r"<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)", re.IGNORECASE)


def parse_xml(text: str, source: str, root_tag: str = "profile") -> Element:
    """Root element of a report. Raises ReportFormatError for what is no complete XML report or declares entities."""
    require_text(text, source)
    if _DECLARATION.search(text):
        raise ReportFormatError(f"{source} declares a document type or entities, which no report does: refused")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        # ValueError: characters that cannot be encoded.
        raise ReportFormatError(
            f"{source} is not complete XML: {error}", hint="the synthesis was stopped before it had written its report"
        ) from None
    if root.tag != root_tag:
        raise ReportFormatError(f"{source} is a <{root.tag}> document, not a report (<{root_tag}>)")
    return Element(root, source, "")


@dataclass(frozen=True)
class Element:
    """An element and the path that leads to it."""

    node: ElementTree.Element
    source: str
    path: str

    @property
    def where(self) -> str:
        """File and path, as messages name them."""
        return f"{self.source}: {self.path}"

    def find(self, path: str) -> Element | None:
        """The element at ``A/B/C``; None when there is none. Raises ReportFormatError when a step is ambiguous."""
        found: Element | None = self
        for tag in path.split("/"):
            assert found is not None
            nodes = found.node.findall(tag)
            inner = f"{found.path}/{tag}".lstrip("/")
            if len(nodes) > 1:
                raise ReportFormatError(f"{self.source}: {inner} occurs {len(nodes)} times")
            if not nodes:
                return None
            found = Element(nodes[0], self.source, inner)
        return found

    def section(self, path: str) -> Element:
        """The element at the path, or a ReportFormatError."""
        found = self.find(path)
        if found is None:
            raise ReportFormatError(f"{self.source} has no section {self.path}/{path}".replace(" /", " "))
        return found

    def children(self) -> list[Element]:
        """Elements inside, in order."""
        return [Element(node, self.source, f"{self.path}/{node.tag}".lstrip("/")) for node in self.node]

    def has(self, tag: str) -> bool:
        """Whether there is such an entry."""
        return self.node.find(tag) is not None

    @property
    def tag(self) -> str:
        """Name of the element."""
        return str(self.node.tag)

    def text(self, tag: str) -> str:
        """Text of an entry that must be there and not empty."""
        found = self.find(tag)
        if found is None:
            raise ReportFormatError(f"{self.source} has no entry {self.path}/{tag}")
        if len(found.node):
            raise ReportFormatError(f"{found.where} holds further entries where a value is expected")
        text = (found.node.text or "").strip()
        if not text:
            raise ReportFormatError(f"{found.where} is empty")
        return text

    def optional_text(self, tag: str) -> str | None:
        """Text of an entry; None when it is absent."""
        return self.text(tag) if self.has(tag) else None

    def whole(self, tag: str) -> int:
        """A count that must be stated."""
        return values.whole(self.text(tag), f"{self.where}/{tag}")

    def whole_if_known(self, tag: str) -> int | None:
        """A count; None where the tool says that it does not know."""
        return values.whole_if_known(self.text(tag), f"{self.where}/{tag}")

    def optional_whole(self, tag: str) -> int | None:
        """A count; None when the entry is absent or the tool says that it does not know."""
        return self.whole_if_known(tag) if self.has(tag) else None

    def amount(self, tag: str) -> float:
        """A number, not below zero, that must be stated."""
        return values.amount(self.text(tag), f"{self.where}/{tag}")

    def amount_if_known(self, tag: str) -> float | None:
        """A number, not below zero; None where the tool says that it does not know."""
        return values.amount_if_known(self.text(tag), f"{self.where}/{tag}")

    def nanoseconds(self, tag: str) -> float | None:
        """A time with its unit."""
        return values.nanoseconds(self.text(tag), f"{self.where}/{tag}")

    def all_or_none(self, *tags: str) -> bool:
        """Whether a group of entries is there. ReportFormatError when only a part of it is: the rest was lost."""
        present = [tag for tag in tags if self.has(tag)]
        if present and len(present) < len(tags):
            missing = ", ".join(tag for tag in tags if tag not in present)
            raise ReportFormatError(f"{self.source} has no entry {self.path}/{missing}")
        return bool(present)
