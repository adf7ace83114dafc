"""The installed package: built by colcon, launched, killed, stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from tests.helpers.ros_world import BUNDLE, wait_for

ROOT = Path(__file__).parents[3]
COPIED = ("av_grounding", "launch", "config", "models", "package.xml", "setup.py", "README.md")
NODE = "/av_grounding/grounding"
pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(shutil.which("ros2") is None, reason="needs ros2cli on the PATH"),
]


def colcon():
    """The command that runs colcon, preferably under this interpreter."""
    probe = [sys.executable, "-c", "import colcon_core"]
    if subprocess.run(probe, capture_output=True).returncode == 0:
        return [sys.executable, "-m", "colcon"]
    found = shutil.which("colcon")
    if found is None:
        pytest.skip("needs colcon")
    return [found]


@pytest.fixture(scope="module", params=["plain", "symlink"])
def workspace(request, tmp_path_factory):
    """A workspace with the package built in it; the environment to use it with."""
    folder = tmp_path_factory.mktemp(request.param)
    source = folder / "src" / "av_grounding"
    source.mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    # What the build imports must not include PyTorch.
    blocked = folder / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('torch is absent')\n")
    environment = os.environ | {"PYTHONPATH": f"{blocked}:{os.environ.get('PYTHONPATH', '')}"}
    options = ["--symlink-install"] if request.param == "symlink" else []
    built = subprocess.run(
        [*colcon(), "build", *options, "--event-handlers", "console_direct+"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    prefix = folder / "install" / "av_grounding"
    script = f"source {folder}/install/local_setup.bash && env -0"
    sourced = subprocess.run(
        ["bash", "-c", script], env=os.environ, capture_output=True, text=True, check=True
    )
    lines = (line.partition("=") for line in sourced.stdout.split("\0") if line)
    return prefix, {name: value for name, _, value in lines}, environment["PYTHONPATH"]


def shell(command, environment, timeout_s=60):
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout_s
    )


def test_the_package_is_installed_where_ros_looks(workspace):
    prefix, environment, _ = workspace
    assert (prefix / "share/ament_index/resource_index/packages/av_grounding").exists()
    for name in ("package.xml", "launch/grounding.launch.py", "config/grounding.yaml"):
        assert (prefix / "share/av_grounding" / name).exists(), name
    found = shell(["ros2", "pkg", "executables", "av_grounding"], environment)
    assert "av_grounding grounding" in found.stdout
    # The shipped model is found from the installed package, from any directory.
    code = "from av_grounding.config import default_bundle; print(default_bundle())"
    clean = {k: v for k, v in environment.items() if k != "AV_GROUNDING_MODEL"}
    bundle = subprocess.run(
        [sys.executable, "-c", code], env=clean, cwd="/", capture_output=True, text=True
    )
    assert bundle.stdout.strip().endswith(f"models/{BUNDLE.name}"), bundle.stderr
    assert (Path(bundle.stdout.strip()) / "model.safetensors").is_file()


def test_arguments_are_shown_without_pytorch(workspace):
    _, environment, without_torch = workspace
    blocked = without_torch.split(":")[0]
    environment = environment | {"PYTHONPATH": f"{blocked}:{environment['PYTHONPATH']}"}
    shown = shell(
        ["ros2", "launch", "av_grounding", "grounding.launch.py", "--show-args"], environment
    )
    assert shown.returncode == 0, shown.stderr
    for name in (
        *("namespace", "params_file", "image_topic", "audio_topic", "model", "backend"),
        *("autostart", "use_sim_time", "use_respawn", "log_level", "rviz", "python"),
    ):
        assert f"'{name}'" in shown.stdout


class Launched:
    """`ros2 launch` of the package in the background."""

    def __init__(self, environment, folder, *arguments):
        self._log = (folder / "launch.log").open("w+")
        self._environment = environment
        self.process = subprocess.Popen(
            [
                *("ros2", "launch", "av_grounding", "grounding.launch.py"),
                *(f"model:={BUNDLE}", f"python:={sys.executable}", *arguments),
            ],
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def log(self):
        self._log.seek(0)
        return self._log.read()

    def state(self):
        answer = shell(["ros2", "lifecycle", "get", NODE], self._environment)
        return answer.stdout.strip()

    def wait_until(self, state, timeout_s=90.0):
        ends_s = time.monotonic() + timeout_s
        while not self.state().startswith(state):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < ends_s, self.log
            time.sleep(0.5)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise
        self._log.close()


@pytest.fixture
def launch(workspace, tmp_path):
    started = []

    def start(*arguments):
        started.append(Launched(workspace[1], tmp_path, *arguments))
        return started[-1]

    yield start
    for launched in started:
        launched.stop()


def test_up_and_down(launch):
    launched = launch()
    launched.wait_until("active")
    pids = re.findall(r"process started with pid \[(\d+)\]", launched.log)
    launched.process.send_signal(signal.SIGINT)
    assert launched.process.wait(30) == 0
    assert "process has finished cleanly" in launched.log
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_waits_for_a_manager_where_told_so(launch):
    launched = launch("autostart:=false")
    launched.wait_until("unconfigured")
    for transition, state in (("configure", "inactive"), ("activate", "active")):
        answer = shell(["ros2", "lifecycle", "set", NODE, transition], launched._environment)
        assert "successful" in answer.stdout, answer.stdout + answer.stderr
        launched.wait_until(state)


def test_comes_back_after_kill_9(launch):
    launched = launch("use_respawn:=true")
    launched.wait_until("active")
    pid = int(re.findall(r"process started with pid \[(\d+)\]", launched.log)[-1])
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: len(re.findall(r"process started with pid \[(\d+)\]", launched.log)) == 2,
        30.0,
        "a new process",
    )
    launched.wait_until("active")


def test_a_refused_parameter_is_one_line_and_exit_code_2(workspace, tmp_path):
    prefix, environment, _ = workspace
    node = [sys.executable, str(prefix / "lib" / "av_grounding" / "grounding")]
    answer = shell([*node, "--ros-args", "-p", "max_rate:=-3.0"], environment)
    assert answer.returncode == 2
    assert "max_rate, expected 0 to 1000" in answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr
