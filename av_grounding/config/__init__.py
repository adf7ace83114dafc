"""Runtime configuration: typed, ranged, read from a ROS parameter file.

One file (config/grounding.yaml) serves `ros2 launch` and the command line, so names are ROS
parameter names (`gate.min_dbfs`), nested or dotted. Every field carries its range and its
meaning, from which a node can declare its parameters.
"""

from av_grounding.config.bundles import (
    MODEL_ENVIRONMENT_VARIABLE,
    default_bundle,
    find_bundles,
)
from av_grounding.config.files import NODE_NAME, config_from_mapping, load_config
from av_grounding.config.schema import GroundingConfig, Parameter, parameters

__all__ = [
    "MODEL_ENVIRONMENT_VARIABLE",
    "NODE_NAME",
    "GroundingConfig",
    "Parameter",
    "config_from_mapping",
    "default_bundle",
    "find_bundles",
    "load_config",
    "parameters",
]
