"""What may stand at each place of a config. A paper that brings a new kind of part adds a line to :data:`KINDS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recot.request.signature import Target, defined_in, describe

HERE = Path(__file__).parents[1]
"""The package."""


@dataclass(frozen=True)
class Kind:
    """What a place of a config takes: of ``packages`` a class or a function, of a plugin the same by other names.

    Attributes:
        what: it is, in words.
        packages: modules of recot, or folders of them, that define it.
        base: names of classes, of which it inherits from one; empty where ``methods`` say it all.
        methods: that it has, where there is no ``base``.
        takes: the argument that the run hands to it later; empty for a class.
    """

    what: str
    packages: tuple[str, ...]
    base: tuple[str, ...] = ()
    methods: frozenset[str] = frozenset()
    takes: str = ""

    def holds(self, found: Target) -> bool:
        """Whether a class or function is of this kind, as far as its source tells."""
        own = found.module.split(".")[0] == "recot"
        if own and (found.name.startswith("_") or "Protocol" in found.bases or not any(
                found.module == package or found.module.startswith(f"{package}.") for package in self.packages)):
            return False
        if self.takes:
            return self.takes in found.parameters and (not own or found.returns in ("Split", "Strangers", "Given"))
        if not own and (found.opaque or not found.bases):  # a base, or what a function gives, that is not read
            return True
        return bool(found.bases & set(self.base)) if self.base else self.methods <= found.methods

    def known(self) -> list[str]:
        """Full paths of everything of this kind in recot."""
        modules = [".".join(("recot", *file.relative_to(HERE).with_suffix("").parts))
                   for package in self.packages for place in (HERE.joinpath(*package.split(".")[1:]),)
                   for file in (*place.glob("*.py"), *place.parent.glob(f"{place.name}.py"))]
        paths = [f"{module}.{name}" for module in modules for name in defined_in(module)]
        return [path for path in paths if (found := describe(path)) and self.holds(found)]


KINDS = {
    "data": Kind("source of data", ("recot.data.prepare", "recot.data.planted"), methods=frozenset({"digest", "load"})),
    "protocol.split": Kind("function that splits interactions", (
        "recot.data.split", "recot.data.strong", "recot.data.domains", "recot.data.given", "recot.data.temporal"),
        takes="interactions"),
    "noise": Kind("function that changes a split", ("recot.data.noise",), takes="split"),
    "trainer": Kind("Training", ("recot.fit.settings",), base=("Training",)),
    "loss": Kind("objective", ("recot.objectives",), methods=frozenset({"batches"})),
    "denoiser": Kind("Denoiser", ("recot.denoise",), base=("Denoiser",)),
    "model": Kind("recommender", ("recot.networks", "recot.closed"), base=("TwoTower", "Recommender")),
    "logger": Kind("tracker", ("recot.record.trackers",), methods=frozenset({"start", "log", "finish"})),
}
"""The places that name a class or a function, and what they take. Below them one stands only where the annotation of a
parameter names its class."""


def outside(dotted: object, plugins: Sequence[str]) -> str | None:
    """The package of a target that is neither in recot nor trusted, None where it is."""
    package = str(dotted).split(".")[0]
    return package if package not in ["recot", *plugins] else None
