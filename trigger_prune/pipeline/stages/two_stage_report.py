"""The two-stage findings in the project's report: shown where both are of one state of the project, said where not.

``trigger-prune run`` and ``trigger-prune two-stage`` publish into one folder, in any order and any number of times. A
published file belongs to the artefact with its SHA-256; the manifests of the two artefacts say what each rests on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trigger_prune.errors import ReportFormatError
from trigger_prune.pipeline.artefacts import MANIFEST, Manifest
from trigger_prune.pipeline.keys import file_digest
from trigger_prune.report.files import write_text
from trigger_prune.report.two_stage_page import insert_section, remove_section, stale_section, two_stage_section
from trigger_prune.two_stage.figures import findings_from_dict

FOLDER = "two_stage"
REPORT, FINDINGS = "report.html", f"{FOLDER}/two_stage.json"
"""Below the output folder, and below the folders of the artefacts."""

_MISSING = object()


def publish_report(folder: Path, out: Path) -> Path:
    """Write the report of the artefact ``folder`` into the output folder, with the two-stage findings that are there.

    Findings of another state of the project are not shown; the page says so, and why.
    """
    html = (folder / REPORT).read_text(encoding="utf-8")
    manifest = _manifest(folder)
    write_text(_with_findings(html, [] if manifest is None else [manifest], out), out / REPORT)
    return out / REPORT


def refresh_report(out: Path) -> None:
    """Put the published findings into the published report, where there is one, in the place of earlier ones."""
    path = out / REPORT
    if path.is_file():
        html = remove_section(path.read_text(encoding="utf-8"))
        write_text(_with_findings(html, _reports_of(html, out), out), path)


def why_left_out(out: Path) -> str | None:
    """Why the published report does not show the published findings; None where it does, or one of them is missing."""
    path = out / REPORT
    if not path.is_file() or not (out / FINDINGS).is_file():
        return None
    return _mismatch(_reports_of(remove_section(path.read_text(encoding="utf-8")), out), out)


def _reports_of(html: str, out: Path) -> list[Manifest]:
    """Artefacts whose report this is: one, unless two runs have written the same to the last character."""
    return list(_owners(out, "report", REPORT, hashlib.sha256(html.encode()).hexdigest()))


def _with_findings(html: str, reports: list[Manifest], out: Path) -> str:
    path = out / FINDINGS
    if not path.is_file():
        return html
    reason = _mismatch(reports, out)
    if reason is not None:
        return insert_section(html, stale_section(reason))
    findings = findings_from_dict(json.loads(path.read_text(encoding="utf-8")))
    return insert_section(html, two_stage_section(findings))


def _mismatch(reports: list[Manifest], out: Path) -> str | None:
    """Why the published findings are not those of this report, in words; None where they are."""
    if not reports:
        return "what the run of this report rests on is no longer stored"
    studies = list(_owners(out, FOLDER, FINDINGS, file_digest(out / FINDINGS)))
    if not studies:
        return "what they rest on is no longer stored"
    for report in reports:
        reasons = [_difference(report, study) or _older_code(study, out) for study in studies]
        if all(reasons):
            return reasons[-1]
    return _unreadable(out / FINDINGS)


def _difference(report: Manifest, findings: Manifest) -> str:
    """What the two rest on that is not the same: keys of the project, else stages."""
    mine, theirs = report.identity, findings.identity
    keys = [key for key, value in theirs["config"].items() if _value(mine["config"], key) not in (value, _MISSING)]
    if keys:
        return f"they are of another {', '.join(sorted(keys))}"
    stages = [name for name, key in theirs["upstream"].items() if mine["upstream"].get(name, key) != key]
    return f"they are of other results of stage {', '.join(stages)}" if stages else ""


def _older_code(findings: Manifest, out: Path) -> str:
    """Whether this version of the program would compute the study, or its light models, again."""
    # both publish through this module
    from trigger_prune.pipeline.stages.two_stage import TWO_STAGE
    from trigger_prune.pipeline.stages.two_stage_lights import LIGHTS

    key = findings.identity["upstream"][LIGHTS.name]
    lights = [found for found in _manifests(out, LIGHTS.name) if found.key == key]
    pairs = [(TWO_STAGE, findings), *((LIGHTS, found) for found in lights)]
    old = [stage.name for stage, stored in pairs if stored.identity["version"] != stage.version]
    return f"they are of another version of stage {', '.join(old)}" if old else ""


def _unreadable(path: Path) -> str | None:
    try:
        findings_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ReportFormatError, ValueError) as error:
        return f"this version cannot read them ({error})"
    return None


def _value(config: Mapping[str, Any], dotted: str) -> Any:
    found: Any = config
    for part in dotted.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _MISSING
        found = found[part]
    return found


def _owners(out: Path, stage: str, file: str, digest: str) -> Iterator[Manifest]:
    """Artefacts of a stage that have this very file."""
    for manifest in _manifests(out, stage):
        if manifest.files.get(file, {}).get("sha256") == digest:
            yield manifest


def _manifests(out: Path, stage: str) -> Iterator[Manifest]:
    for folder in sorted((out / "artefacts").glob(f"{stage}-*")):
        manifest = _manifest(folder)
        if manifest is not None and manifest.identity.get("stage") == stage:
            yield manifest


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # half removed or of another program: it proves nothing
        return None
