"""Which Events a status change is worth: one for each condition that turned, none for a status at rest."""

from dataclasses import dataclass
from typing import Any

ABNORMAL = ("Stalled", "Warning")


@dataclass(frozen=True, slots=True)
class EventNote:
    """An Event to post about a resource."""

    type_: str  # Normal | Warning
    reason: str
    message: str


def transitions(old: dict[str, Any], new: dict[str, Any]) -> list[EventNote]:
    """Ready turned, or it is not ready for another reason; Stalled or Warning came or went."""
    before = {c["type"]: c for c in old.get("conditions", [])}
    notes = []
    for condition in new.get("conditions", []):
        note = _note(before.get(condition["type"]), condition)
        if note is not None:
            notes.append(note)
    return notes


def _note(before: dict[str, Any] | None, now: dict[str, Any]) -> EventNote | None:
    was = (before["status"], before["reason"]) if before else ("False", "")
    turned = was[0] != now["status"]
    if now["type"] == "Ready":
        if now["status"] == "True":
            return EventNote("Normal", now["reason"], now["message"]) if turned else None
        return (
            EventNote("Warning", now["reason"], now["message"]) if was != ("False", now["reason"]) and before else None
        )
    if now["type"] not in ABNORMAL:
        return None
    if now["status"] == "True":
        return EventNote("Warning", now["reason"], now["message"]) if was != ("True", now["reason"]) else None
    return EventNote("Normal", f"{now['type']}Resolved", "resolved") if turned else None
