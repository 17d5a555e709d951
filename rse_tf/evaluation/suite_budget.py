"""How much of its time a suite of attacks may still spend."""

from __future__ import annotations


class Budget:
    """Leaves out attacks of a suite that do not fit into the minutes that are left.

    The time is that of the attacks, as their files keep it, so that a run which was killed leaves
    out what an undisturbed one would. All distances share what is left in equal parts; what one
    of them does not need is for those after it.

    Args:
        minutes: for all attacks at all distances; `None` for no limit.
        distances: number of distances of all norms together.
        devices: how many of them attack at the same time.
    """

    def __init__(self, minutes: float | None, distances: int, devices: int = 1) -> None:
        self._left = None if minutes is None else 60.0 * minutes * devices
        self._distances = distances
        self._share = 0.0
        self._seconds = self._passes = 0.0

    def begin_distance(self) -> None:
        """Gives the next distance its part of what is left."""
        if self._left is not None:
            self._share = self._left / max(self._distances, 1)
        self._distances -= 1

    def allows(self, passes: float) -> bool:
        """Whether an attack of so many passes fits, by what the passes before it took.

        The first attack always does: nothing is known of the model before.

        Args:
            passes: at most, of all images together.
        """
        if self._left is None or not self._passes:
            return True
        return passes * self._seconds / self._passes <= self._share

    def spend(self, passes: float, seconds: float) -> None:
        """Records an attack.

        Args:
            passes: of all images together.
            seconds: of all devices together.
        """
        self._passes, self._seconds = self._passes + passes, self._seconds + seconds
        self._share -= seconds
        if self._left is not None:
            self._left -= seconds
