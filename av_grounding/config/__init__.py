"""Settings in one place: typed, ranged, read from a ROS parameter file.

One file (config/grounding.yaml) serves `ros2 launch` and the command line, so names are ROS
parameter names (`gate.min_dbfs`), nested or dotted. Every field carries its name, its range and
its meaning, from which a node declares its parameters; the streaming core takes its own part.
"""

from av_grounding.config.bundles import (
    MODEL_ENVIRONMENT_VARIABLE,
    default_bundle,
    drawn_world_bundle,
    find_bundles,
)
from av_grounding.config.checking import Parameter
from av_grounding.config.files import NODE_NAME, config_from_mapping, extra_heads, load_config
from av_grounding.config.schema import (
    HEADS,
    SAMPLE_FORMATS,
    AudioSettings,
    GroundingConfig,
    SeparationSettings,
    StampReference,
    parameters,
)
from av_grounding.config.streaming import StreamingConfig
from av_grounding.config.vocabulary import Vocabulary, nearest, read_vocabulary

__all__ = [
    "HEADS",
    "MODEL_ENVIRONMENT_VARIABLE",
    "NODE_NAME",
    "SAMPLE_FORMATS",
    "AudioSettings",
    "GroundingConfig",
    "Parameter",
    "SeparationSettings",
    "StampReference",
    "StreamingConfig",
    "Vocabulary",
    "config_from_mapping",
    "default_bundle",
    "drawn_world_bundle",
    "extra_heads",
    "find_bundles",
    "load_config",
    "nearest",
    "parameters",
    "read_vocabulary",
]
