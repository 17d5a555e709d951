"""Settings that are part of compiled graphs."""

from __future__ import annotations

from typing import Any


class Constant:
    """An attribute that is set once, at construction.

    Functions that were compiled with its value would not see another one, and go on as before.
    So a later assignment is refused.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self._name not in instance.__dict__:
            raise AttributeError(f"{type(instance).__name__} has no {self._name} yet")
        return instance.__dict__[self._name]

    def __set__(self, instance: Any, value: Any) -> None:
        if self._name in instance.__dict__:
            kind = type(instance).__name__
            raise AttributeError(
                f"{kind}: {self._name} cannot change after construction, for functions compiled "
                f"before would not notice; build a new {kind}, for example by from_config. "
                f"Received: {self._name}={value!r}, while it is {getattr(instance, self._name)!r}"
            )
        instance.__dict__[self._name] = value
