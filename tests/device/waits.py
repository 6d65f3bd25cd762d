"""What waits for the device in a step of every preset, as a table: ``PYTHONPATH=. python tests/device/waits.py``."""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from card import Card  # noqa: E402
from test_meta_device import VARIANTS, step_of  # noqa: E402


def main():
    """Print a line per preset: waits while its batch is drawn, in the forward pass and in the backward pass."""
    print(f"{'preset':34}{'drawing':>8}{'forward':>8}{'backward':>9}  where")
    for name, words in VARIANTS.items():
        card = Card()
        step_of(words, card)
        stages = Counter(stage for stage, _, _ in card.waits)
        places = Counter(f"{operation} {place}" for _, operation, place in card.waits)
        where = ", ".join(f"{count} x {place}" for place, count in places.items())
        print(f"{name:34}{stages['drawing']:8}{stages['forward']:8}{stages['backward']:9}  {where}", flush=True)


if __name__ == "__main__":
    main()
