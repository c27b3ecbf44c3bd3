"""The benchmark's settings from words such as benchmark.protocol=lewm data.path=expert.h5, for plan.py."""

from __future__ import annotations

from collections.abc import Sequence

from configs.overrides import ConfigError, did_you_mean

PROTOCOLS = ("held_out", "lewm")  # ours, and the published evaluation of LeWM
PROTOCOL, DATA = "benchmark.protocol", ("data.path", "data.camera", "data.state")


def benchmark_settings(overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are not about the benchmark, and its settings, benchmark.protocol always among them.

    Raises ConfigError for a setting or protocol that does not exist, and for data where it has no meaning.
    """
    ours = [word for word in overrides if word.startswith(("benchmark.", "data."))]
    settings = {PROTOCOL: PROTOCOLS[0], **dict(word.split("=", 1) for word in ours)}
    for key in settings:
        if key not in (PROTOCOL, *DATA):
            raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, [PROTOCOL, *DATA])}")
    protocol = settings[PROTOCOL]
    if protocol not in PROTOCOLS:
        raise ConfigError(f"there is no {PROTOCOL}={protocol}{did_you_mean(protocol, PROTOCOLS)}")
    if protocol == "lewm" and not settings.get("data.path"):
        raise ConfigError(f"{PROTOCOL}=lewm takes starts and goals from a recording: say data.path=FILE")
    if protocol != "lewm" and len(settings) > 1:
        raise ConfigError(f"data.… is for {PROTOCOL}=lewm: the held-out pairs need no recording")
    return [word for word in overrides if word not in ours], settings
