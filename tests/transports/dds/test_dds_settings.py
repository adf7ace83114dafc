"""ROS's network settings as Cyclone's: domain, discovery range, peers, distro."""

import xml.etree.ElementTree as ElementTree

import pytest

from av_grounding.transports.dds.settings import DdsSettings


def texts(settings, path):
    """Text of every element at a path in any fragment of the configuration."""
    fragments = settings.config.replace("</CycloneDDS>,", "</CycloneDDS>\n").split("\n")
    elements = (ElementTree.fromstring(part) for part in fragments if part.startswith("<"))
    return [found for root in elements for found in root.findall(f"Domain/{path}")]


def test_without_a_word_it_stays_on_this_machine():
    settings = DdsSettings.from_environment({})
    assert (settings.domain_id, settings.discovery, settings.distro) == (0, "localhost", "jazzy")
    assert [e.text for e in texts(settings, "General/AllowMulticast")] == ["false"]
    peers = texts(settings, "Discovery/Peers/Peer")
    assert [peer.get("address") for peer in peers] == ["localhost"]


def test_the_environment_counts():
    settings = DdsSettings.from_environment(
        {
            "ROS_DOMAIN_ID": "42",
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
            "ROS_STATIC_PEERS": "10.0.0.7;robot.local",
            "CYCLONEDDS_URI": "file:///etc/cyclone.xml",
        }
    )
    assert (settings.domain_id, settings.discovery) == (42, "subnet")
    peers = texts(settings, "Discovery/Peers/Peer")
    assert [peer.get("address") for peer in peers] == ["10.0.0.7", "robot.local"]
    assert texts(settings, "General/AllowMulticast") == []
    assert settings.config.endswith(",file:///etc/cyclone.xml")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ROS_LOCALHOST_ONLY": "1"}, "localhost"),
        ({"ROS_LOCALHOST_ONLY": "0"}, "subnet"),
        ({"ROS_LOCALHOST_ONLY": "1", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "localhost"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "off"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}, "system_default"),
        # Humble knows no range.
        ({"ROS_DISTRO": "humble", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "localhost"),
    ],
)
def test_discovery_range(environment, expected):
    assert DdsSettings.from_environment(environment).discovery == expected


@pytest.mark.parametrize(
    ("distro", "expected"),
    [("humble", "humble"), ("jazzy", "jazzy"), ("kilted", "jazzy"), ("", "jazzy")],
)
def test_layout_of_the_distro(distro, expected):
    assert DdsSettings.from_environment({"ROS_DISTRO": distro}).distro == expected
    assert DdsSettings.from_environment({"ROS_DISTRO": distro}, distro="humble").distro == "humble"


def test_humble_pins_the_loopback_interface(tmp_path):
    interfaces = texts(DdsSettings(distro="humble"), "General/Interfaces/NetworkInterface")
    assert [interface.get("address") for interface in interfaces] == ["127.0.0.1"]
    chosen = "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo'/></Interfaces>"
    settings = DdsSettings(distro="humble", extra_config=chosen)
    assert settings.config.count("NetworkInterface ") == 1
    path = tmp_path / "cyclone.xml"
    path.write_text(chosen)
    settings = DdsSettings(distro="humble", extra_config=f"file://{path}")
    assert "NetworkInterface" not in settings.config
    subnet = DdsSettings(distro="humble", discovery="subnet")
    assert texts(subnet, "General/Interfaces/NetworkInterface") == []


def test_off_hides_behind_a_tag_of_its_own():
    [tag] = texts(DdsSettings(discovery="off"), "Discovery/Tag")
    assert tag.text.startswith("ros_discovery_off_")
    assert texts(DdsSettings(discovery="off"), "Discovery/Peers/Peer") == []
    assert texts(DdsSettings(discovery="system_default"), "Discovery") == []


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ROS_DOMAIN_ID": "minus one"}, "whole number"),
        ({"ROS_DOMAIN_ID": "233"}, "0 to 232"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "GALAXY"}, "GALAXY"),
    ],
)
def test_mistakes_are_named(environment, message):
    with pytest.raises(ValueError, match=message):
        DdsSettings.from_environment(environment)


def test_an_explicit_range_goes_first():
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    assert DdsSettings.from_environment(environment, discovery="off").discovery == "off"
