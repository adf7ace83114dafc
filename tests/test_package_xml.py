"""package.xml says what the node imports, and what setup.py says."""

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import av_grounding
from tests.test_architecture import imports_of

ROOT = Path(__file__).parents[1]
MANIFEST = ET.parse(ROOT / "package.xml").getroot()
# Modules of ROS 2 by the package that holds them, where the names differ.
PACKAGES = {"tf2_ros": "tf2_ros_py"}
OF_ROS = re.compile(
    r"\w+_(msgs|srvs|interfaces)|rcl\w*|rosidl\w*|tf2\w*|launch\w*|ament\w*|diagnostic_updater"
)
# Understood where it is installed, and not needed: another kind of sound.
BY_CHOICE = {"foxglove_msgs", "audio_utils_msgs", "naoqi_bridge_msgs"}


def depends(kind):
    return {element.text for element in MANIFEST.iter(f"{kind}_depend")}


def packages_of(*paths):
    """The ROS packages whose modules Python files import, wherever they do."""
    names = {name for path in paths for name in imports_of(path, path.stem, False)}
    names = {name.partition(".")[0] for name in names}
    return {PACKAGES.get(name, name) for name in names if OF_ROS.fullmatch(name)}


def test_what_the_node_and_its_launch_file_import_is_depended_on():
    node = packages_of(*(ROOT / "av_grounding").rglob("*.py"), *(ROOT / "launch").glob("*.py"))
    assert {"rclpy", "tf2_ros_py", "launch_ros", "std_srvs"} <= node
    assert node - depends("exec") == set()


def test_the_messages_that_it_publishes_and_reads_are_depended_on():
    named = set()
    for path in (ROOT / "av_grounding" / "transports" / "messages").glob("*.py"):
        named |= set(re.findall(r"\"(\w+)/msg/\w+\"", path.read_text(encoding="utf-8")))
    named -= {"rmw_dds_common"} | BY_CHOICE  # what DDS without ROS says for itself
    assert {"sensor_msgs", "vision_msgs", "audio_common_msgs"} <= named
    assert named - depends("exec") == set()


def test_what_ros_tests_import_is_depended_on():
    tests = packages_of(*(ROOT / "tests").rglob("*.py"))
    assert {"lifecycle_msgs", "rosgraph_msgs"} <= tests
    assert tests - depends("exec") - depends("test") == set()


def test_name_version_and_licence_are_those_of_setup():
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    call = next(node for node in ast.walk(setup) if isinstance(node, ast.Call) and node.keywords)
    said = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    for key in ("name", "version", "license"):
        assert MANIFEST.find(key).text == said[key]
    assert said["version"] == av_grounding.__version__
