"""Package metadata lives here alone: with a [project] table setuptools would ignore this file."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="av_grounding",
    version="0.1.0",
    description="Heatmaps of where a sound comes from and what spoken words refer to",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(exclude=["tests", "tests.*"]),
    include_package_data=True,
    install_requires=[
        "av>=13",
        "jaxtyping>=0.2.34",
        "numpy>=1.26",
        "opencv-python>=4.9",
        "platformdirs>=4",
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4.3",
        "sounddevice>=0.4.6",
        "soxr>=0.5",
        "torch>=2.5",
        "transformers>=4.48",
        # The maintained fork of webrtcvad: same module and API, with wheels, so that a robot
        # needs no compiler; the original still imports the removed pkg_resources.
        "webrtcvad-wheels>=2.0.14",
    ],
    extras_require={
        # The synthetic world: drawing its sounds and speaking its words.
        "synthetic": ["espeakng-loader>=0.2.4", "scipy>=1.10"],
        "test": [
            "beartype>=0.18",
            "hypothesis>=6.100",
            "pytest>=8",
            "ruff>=0.8",
            "scikit-learn>=1.4",
        ],
        "train": ["matplotlib>=3.8", "scikit-learn>=1.4"],
    },
    entry_points={"console_scripts": ["av-grounding = av_grounding.cli:main"]},
)
