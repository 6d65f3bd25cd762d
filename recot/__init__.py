"""recot: recommendation from noisy implicit feedback. Names are imported from where they are defined."""

__version__ = "0.1.0"
