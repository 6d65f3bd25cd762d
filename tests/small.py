"""Words that suit a preset to small planted data: domains where its config asks for some, earlier stages in brief."""

from functools import cache

from commands import known as composed
from hydra.utils import get_class


@cache
def plain(preset):
    """The config of a preset with its own values."""
    return composed(f"model={preset}")[0]


@cache
def wants_domains(preset):
    """Whether a preset has stages, a fit for each domain, or a network that knows of domains."""
    config = plain(preset)
    return bool(config["stages"]) or config["domains"] != "joint" or getattr(
        get_class(config["model"]["_target_"]), "by_domain", False)


def asked(preset, *protocol, candidates=40):
    """The words of the protocol that a preset is asked by: those given, or three domains, in each of which a target is
    ranked among ``candidates``.
    """
    if wants_domains(preset):
        return ("data.n_domains=3", "protocol=domains", f"protocol.split.candidates={candidates}")
    return protocol


def briefly(preset, **values):
    """``values`` of the trainer, the loss and the model, by their names, in each earlier stage that has them."""
    return [f"stages.{name}.{part}.{key}={value}" for name, stage in plain(preset)["stages"].items()
            for part in ("trainer", "loss", "model") for key, value in values.items() if key in stage[part]]
