"""Report files as text, and the sections of a report."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from trigger_prune.errors import ReportFormatError

MAX_BYTES = 256 * 2**20
"""Reports and logs of the largest designs stay below 100 MB; beyond this a file is something else."""

_SECTION = re.compile(r"== (\S.*?)\s*")
_INFORMATION = re.compile(r"\s*\* (Date|Version|Project|Solution|Product family|Target device):\s*(\S.*?)\s*")
_HEADING = re.compile(r"(\s*)[+*] (\S[^|]*?)\s*:\s*")


def read_report(path: Path) -> str:
    """Text of a report or log file.

    Bytes outside UTF-8 (host names, paths) are kept as replacement characters; a number never holds one.
    Raises ReportFormatError for what is no regular file, cannot be read, is empty, larger than 256 MiB or not text.
    """
    if path.is_dir():
        raise ReportFormatError(f"{path} is a folder, not a report file")
    try:
        if not path.is_file():
            raise ReportFormatError(f"{path} does not exist or is no regular file")
        if path.stat().st_size > MAX_BYTES:
            raise ReportFormatError(f"{path} is larger than {MAX_BYTES // 2**20} MiB: not a report")
        raw = path.read_bytes()
    except OSError as error:
        raise ReportFormatError(f"{path} cannot be read: {error.strerror}") from None
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", errors="replace")  # what a Windows shell writes when output is redirected
    else:
        text = raw.decode("utf-8-sig", errors="replace")
    return require_text(text, str(path))


def require_text(text: str, source: str) -> str:
    """The text itself; ReportFormatError when it is empty or holds NUL characters (a damaged or binary file)."""
    if not text.strip():
        raise ReportFormatError(f"{source} is empty", hint="the tool was stopped before it had written its report")
    at = text.find("\0")
    if at >= 0:
        raise ReportFormatError(f"{source} holds a NUL character (position {at}): it is damaged or not a text file")
    return text


def sha256(text: str) -> str:
    """Hash that identifies the text of a report."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Section:
    """Lines of one section of a report; ``title`` is its path, as errors name it, ``heading`` its line as printed."""

    source: str
    title: str
    lines: tuple[str, ...]
    heading: str = ""

    @property
    def where(self) -> str:
        """File and section."""
        return f"{self.source}: {self.title}"


def sections(text: str, source: str) -> dict[str, Section]:
    """Sections of an HLS report by title: lines ``== TITLE`` between lines of ``=``.

    Raises ReportFormatError when a section occurs twice: which one counts is unknown.
    """
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        title = _SECTION.fullmatch(line)
        if title is not None:
            if title[1] in found:
                raise ReportFormatError(f"{source}: the section {title[1]!r} occurs twice")
            found[title[1]] = lines = []
        else:
            lines.append(line)
    return {title: Section(source, title, tuple(body)) for title, body in found.items()}


def information(section: Section) -> dict[str, str]:
    """General information: date, version, project, solution, product family and target device, all of them.

    Raises ReportFormatError when one is missing or stated twice.
    """
    found: dict[str, str] = {}
    for line in section.lines:
        entry = _INFORMATION.fullmatch(line)
        if entry is not None:
            if entry[1] in found:
                raise ReportFormatError(f"{section.source}: the general information states {entry[1]} twice")
            found[entry[1]] = entry[2]
    for name in ("Date", "Version", "Project", "Solution", "Product family", "Target device"):
        if name not in found:
            raise ReportFormatError(f"{section.source}: the general information lacks {name}")
    return found


def parts(section: Section) -> dict[str, Section]:
    """Parts of a section by the path of their headings (``+ Latency:``, ``* Summary:``), nested by indentation.

    The path ``Latency/Detail/Loop`` leaves out what stands in brackets: older tools write ``Timing (ns)``.
    Raises ReportFormatError when one path occurs twice.
    """
    found: dict[str, list[str]] = {}
    printed: dict[str, str] = {}
    open_headings: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in section.lines:
        heading = _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        indent, name = len(heading[1]), heading[2].split("(")[0].strip()
        while open_headings and open_headings[-1][0] >= indent:
            open_headings.pop()
        open_headings.append((indent, name))
        path = "/".join(name for _, name in open_headings)
        if path in found:
            raise ReportFormatError(f"{section.where}/{path} occurs twice")
        found[path] = lines = []
        printed[path] = heading[2]
    return {
        path: Section(section.source, f"{section.title}/{path}", tuple(body), printed[path])
        for path, body in found.items()
    }


def part(found: dict[str, Section], path: str, section: Section) -> Section:
    """One part, or a ReportFormatError that names file and section."""
    if path not in found:
        raise ReportFormatError(f"{section.source} has no part {section.title}/{path}")
    return found[path]
