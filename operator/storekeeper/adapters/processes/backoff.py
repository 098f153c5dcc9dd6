"""How long to wait before a failed container is started again: the kubelet's rule, with shorter times."""

from dataclasses import dataclass

FIRST_SECONDS = 0.5
"""A person is watching: the kubelet's 10 s would be the whole demonstration."""
MAX_SECONDS = 30.0
RESET_AFTER_SECONDS = 600.0
"""A container that ran this long starts from the first delay again, as in the kubelet."""


@dataclass(slots=True)
class Backoff:
    """Doubling delays."""

    delay_seconds: float = 0.0

    def next(self, ran_seconds: float) -> float:
        if ran_seconds >= RESET_AFTER_SECONDS or self.delay_seconds == 0:
            self.delay_seconds = FIRST_SECONDS
        else:
            self.delay_seconds = min(self.delay_seconds * 2, MAX_SECONDS)
        return self.delay_seconds
