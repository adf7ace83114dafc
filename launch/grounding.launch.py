"""Starts the lifecycle node `grounding`: `ros2 launch av_grounding grounding.launch.py`.

Imports nothing of av_grounding: arguments can be shown and the file loads without PyTorch. It
changes no environment variable; the interpreter of a virtual environment is given as `python`.
"""

from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("av_grounding"))
BOOLEANS = ("true", "false", "True", "False")
"""Nav2 passes them with capitals."""
ARGUMENTS = (
    ("namespace", "av_grounding", "namespace of the node and its topics", None),
    ("params_file", str(SHARE / "config" / "grounding.yaml"), "parameters of the node", None),
    ("image_topic", "/camera/image_raw", "images; camera_info is looked for beside them", None),
    ("image_transport", "", "raw or compressed; empty: by the topic's name, or params_file", None),
    ("audio_topic", "/audio", "sound; audio_info is looked for beside it", None),
    ("depth_topic", "/camera/depth/image_raw", "depth, read where use_3d is set", None),
    ("model", "", "bundle directory; empty: what params_file says, or the shipped one", None),
    ("backend", "", "what runs the model; empty: what params_file says", None),
    ("autostart", "true", "become active without a lifecycle manager", BOOLEANS),
    ("use_sim_time", "false", "follow /clock, as with ros2 bag play --clock", BOOLEANS),
    ("use_respawn", "false", "start the node again when it dies", BOOLEANS),
    ("log_level", "info", "of the node", ("debug", "info", "warn", "error", "fatal")),
    ("rviz", "false", "start RViz with the heatmaps", BOOLEANS),
    ("python", "", "interpreter that has PyTorch, such as VENV/bin/python; empty: as built", None),
)
RESPAWN_DELAY_S = 2.0


def generate_launch_description() -> LaunchDescription:
    """Every argument, then the node."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    overrides: dict[str, str | bool] = {
        "autostart": _is_true(given["autostart"]),
        "use_sim_time": _is_true(given["use_sim_time"]),
    }
    is_compressed = given["image_topic"].endswith("/compressed")
    if transport := given["image_transport"] or ("compressed" if is_compressed else ""):
        overrides["image_transport"] = transport
    if given["model"]:
        overrides["model.path"] = given["model"]
    if given["backend"]:
        overrides["backend"] = given["backend"]
    node = Node(
        package="av_grounding",
        executable="grounding",
        name="grounding",
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        remappings=_remappings(given["image_topic"], given["audio_topic"], given["depth_topic"]),
        arguments=["--ros-args", "--log-level", _log_level(given)],
        prefix=given["python"] or None,
        respawn=_is_true(given["use_respawn"]),
        respawn_delay=RESPAWN_DELAY_S,
        output="screen",
        emulate_tty=True,
    )
    if not _is_true(given["rviz"]):
        return [node]
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        line = "rviz:=true, but rviz2 is not installed: sudo apt install ros-$ROS_DISTRO-rviz2"
        return [LogInfo(msg=line), node]
    config = str(SHARE / "config" / "grounding.rviz")
    return [node, Node(package="rviz2", executable="rviz2", arguments=["-d", config])]


def _is_true(text: str) -> bool:
    return text.lower() == "true"


def _log_level(given: dict[str, str]) -> str:
    """A node's logger is named after its namespace, with dots."""
    names = [*given["namespace"].split("/"), "grounding"]
    return f"{'.'.join(name for name in names if name)}:={given['log_level']}"


def _remappings(image: str, audio: str, depth: str) -> list[tuple[str, str]]:
    """By convention camera_info stands beside its images, and audio_info beside its sound."""
    image = image.removesuffix("/compressed")
    return [
        ("image", image),
        ("image/compressed", f"{image}/compressed"),
        ("camera_info", _beside(image, "camera_info")),
        ("audio", audio),
        ("audio_info", _beside(audio, "audio_info")),
        ("depth", depth),
    ]


def _beside(topic: str, name: str) -> str:
    parent = topic.rpartition("/")[0]
    return f"{parent}/{name}" if parent or topic.startswith("/") else name
