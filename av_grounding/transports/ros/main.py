"""The program `ros2 run av_grounding grounding`; says what to do where there is no ROS 2."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the node; exit code 2 where it cannot start."""
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        sys.stderr.write(
            f"rclpy cannot be imported by {sys.executable} ({error}): source "
            "/opt/ros/DISTRO/setup.bash first; without a ROS install use av-grounding run --dds\n"
        )
        return 2
    try:
        from av_grounding.transports.ros.node import main as run_node
    except ImportError as error:
        sys.stderr.write(
            f"{sys.executable} lacks what the node needs ({error}): start with "
            "python:=VENV/bin/python, the interpreter of the virtual environment that "
            "av_grounding is installed in\n"
        )
        return 2
    return run_node()


if __name__ == "__main__":
    sys.exit(main())
