"""The record of a run as tables read it: checked and parsed once, when it is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from recot.record.lines import RunLine
from recot.record.store import Runs

DONE = {**dict.fromkeys(("key", "data", "model", "loss", "denoiser", "noise", "split", "command"), str),
        **dict.fromkeys(("config", "valid", "test"), dict), "seed": int, "epochs": int, "seconds": int | float}
"""What the record of a finished run has in any case, with its type."""


@dataclass(frozen=True)
class Record:
    """What is known of a run that was started.

    Attributes:
        status: ``done``, ``diverged``, ``failed``, ``interrupted`` or ``running``. error: why it did not end well.
        sources: digest of the code that made it. repeated: of the code that was last seen to do the same.
        line: what the list of runs has of it; None unless it is done.
        content: the whole record, by name; :meth:`value` reads the metrics in it.
    """

    status: str
    error: str
    sources: str
    repeated: str
    line: RunLine | None
    content: Mapping[str, Any]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """From the fields of a record file."""
        status = content["status"]
        return cls(status, content.get("error", "no reason given"), content.get("sources", ""),
                   content.get("repeated", ""), run_line(content) if status == "done" else None, content)

    @property
    def ended(self) -> bool:
        """Whether a new run of the same config would end the same way."""
        return self.status in ("done", "diverged")

    def value(self, metric: str, questions: str) -> float:
        """A metric of a set of questions, of how well known noise was ranked, or of what the last relabelling did.

        Raises:
            KeyError, IndexError, TypeError, ValueError: the record has no such number.
        """
        family, _, rest = metric.partition("_")
        if rest.startswith("auc"):
            return float(self.content[f"{family}_auc"][rest])
        if metric in self.content[questions]:
            return float(self.content[questions][metric])
        return float(self.content[metric] if metric in self.content else self.content["rounds"][-1][metric])


def run_line(content: Mapping[str, Any]) -> RunLine:
    """What a list of runs keeps of a record besides its numbers; what the record lacks is left out."""
    cap = content["config"].get("trainer", {}).get("max_epochs")
    columns = {name: content[name] for name in RunLine.header() if name in content}
    return RunLine(**{"key": "", **columns, "max_epochs": cap if content["epochs"] else 0,
                      "commit": content.get("commit") or "unknown",
                      "first_epoch": {name: repr(value) for name, value in content.get("first_epoch", {}).items()}})


def look_up(runs: Runs, key: str) -> Record | None:
    """The record of a run, with all that a table reads of one that is done; None without one.

    Raises:
        ValueError: the file is damaged; names it, and what to do.
    """
    content: Any = runs.get(key)
    if content is None and not (runs.folder(key) / "record.json").exists():
        return None
    content = content if isinstance(content, dict) else {}
    wanted = {"status": str} | (DONE if content.get("status") == "done" else {})
    wrong = [name for name, kind in wanted.items() if not isinstance(content.get(name), kind)]
    wrong += [f"{name} of numbers" for name in ("valid", "test") if name in wanted and name not in wrong
              and not all(isinstance(value, float | int) or value in ("nan", "inf", "-inf")
                          for value in content[name].values())]
    if "key" in wanted and content.get("key") != key:
        wrong.append(f"key {key}")
    if wrong:
        raise ValueError(f"{runs.folder(key) / 'record.json'} is no whole record, it has no {', '.join(wrong)}; delete "
                         "it and run the same command again")
    return Record.of(content)
