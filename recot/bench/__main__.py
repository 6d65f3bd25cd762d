"""``python -m recot.bench``: see :mod:`recot.bench.steps`."""

from recot.bench.steps import main

main()
