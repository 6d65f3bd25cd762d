"""What a constructor refuses: one parameter, its value, and what to give instead."""

from __future__ import annotations


def check(group: str, *limits: tuple[str, object, bool, str]) -> None:
    """Refuse the first value that is out of its range.

    Args:
        group: config group of the parameters, for example ``loss``.
        limits: name, value, whether it is fine (NaN never is), and what it does where it is not, with the remedy.

    Raises:
        ValueError: a value is not fine.
    """
    for name, value, fine, fault in limits:
        if not fine:
            raise ValueError(f"{group}.{name} = {value} {fault}")
