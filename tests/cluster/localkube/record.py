"""What is known about a running cluster, in a file: enough to find it again, and to be sure that it is the same one."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """The cluster's first process, by its id and the time it started, and the slot that it has."""

    process: int
    started_ticks: int
    slot: int
    binaries: str

    @property
    def cgroup(self) -> str:
        """Name of the cgroup above all pods: this cluster's alone, even after its slot has gone to another."""
        return f"localkube-{self.process}-{self.started_ticks}"

    def alive(self) -> bool:
        """Whether that very process runs: ids are used again, an id with its start time is not."""
        return started_ticks(self.process) == self.started_ticks

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """None where there is none, or none that can be read: a machine may have stopped in the midst of anything."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def started_ticks(process: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it has ended (a zombie has)."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, which may itself hold spaces: count behind it (see proc(5)).
    fields = stat.rpartition(")")[2].split()
    state, start_time = fields[0], fields[19]
    return None if state in "ZX" else int(start_time)
