"""The shape of the house: which room may import which, what stays light, what lies on top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "av_grounding"

# From the ground up. A room may import rooms on lower levels and itself.
LEVELS = (
    {"files", "image_header", "extras", "identification", "regions"},
    {"types", "config", "modeling"},
    {"audio", "image"},
    {"drawing"},
    {"backends", "synthetic"},
    {"everyday"},
    {"sources", "viewer", "recording"},
    {"streaming"},
    {"grounder"},
    {"evaluation", "transports", "doctor"},
    {"training"},
    {"benchmarking"},
    {"cli"},
    {"__main__", ""},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
EXCEPTIONS = {
    # Contracts and what implements them stand on one level.
    ("modeling", "types"),
    # Two conveniences, imported where they are called: `Grounding.resized`, `Grounder`.
    ("types", "image"),
    # The version of the package, from its root.
    ("cli", ""),
}
# `config` for its own settings, which stand there once for all doors.
STREAMING_TAKES = {"types", "audio", "image", "streaming", "config"}
WITHOUT_RUNTIMES = ("types", "audio", "image", "streaming")
RUNTIMES = {
    *("torch", "transformers", "tensorrt", "torch_tensorrt", "onnxruntime"),
    *("rclpy", "cyclonedds", "rosbags", "sounddevice", "av", "aiohttp"),
}
HEAVY = ("torch", "cv2", "av", "sounddevice", "transformers", "scipy", "rich")


def room_of(module):
    """`av_grounding.streaming.clock` -> `streaming`; the package itself -> ``."""
    return [*module.split("."), ""][1]


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, path


def imports_of(path, module, is_package):
    """Every module that a file imports anywhere, absolute, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source == "av_grounding":  # `from av_grounding import image` names a room
                for alias in node.names:
                    is_room = f"{alias.name}" in LEVEL
                    yield f"{source}.{alias.name}" if is_room else source
            else:
                yield source


EDGES = sorted(
    {
        (room_of(name), imported, str(path.relative_to(ROOT)))
        for name, path in modules()
        for imported in imports_of(path, name, path.name == "__init__.py")
    }
)


def test_every_room_has_a_level():
    rooms = {room_of(name) for name, _ in modules()}
    assert rooms - set(LEVEL) == set()
    assert len(EDGES) > 100


def test_imports_go_one_way():
    wrong = []
    for room, imported, path in EDGES:
        if not (imported == "av_grounding" or imported.startswith("av_grounding.")):
            continue
        other = room_of(imported)
        is_down = LEVEL[other] < LEVEL[room] or other == room
        if room and not is_down and (room, other) not in EXCEPTIONS:
            wrong.append(f"{path} imports {imported}")
    assert wrong == []


# Inside a room, from the ground up, where its folders or files stand on one another.
INSIDE = {
    "transports": ({"messages"}, {"topics"}, {"bag"}, {"ros", "dds"}),
    "training": ({"losses", "loop"}, {"data"}, {"recipes"}, {"fitting"}),
}


def module_edges():
    """(module, imported module) inside the package, also of imports for types alone."""
    paths = dict(modules())
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                # A name may be a module of the package that is imported from.
                named = [
                    f"{node.module}.{alias.name}"
                    if f"{node.module}.{alias.name}" in paths
                    else node.module
                    for alias in node.names
                ]
            else:
                continue
            yield from ((name, other) for other in named if other in paths and other != name)


def circles(edges):
    """Modules of which each is imported, by way of others, by the ones that it imports."""
    above = {}
    for name, other in edges:
        above.setdefault(name, set()).add(other)

    def reached(name):
        found, left = set(), [name]
        while left:
            for other in above.get(left.pop(), ()):
                if other not in found:
                    found.add(other)
                    left.append(other)
        return found

    return sorted(name for name in above if name in reached(name))


def test_no_module_imports_itself_by_way_of_others():
    assert circles(module_edges()) == []


def test_circles_are_found():
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]) == ["a", "b", "c"]


@pytest.mark.parametrize("room", INSIDE)
def test_imports_go_one_way_inside_a_room(room):
    level = {name: number for number, names in enumerate(INSIDE[room]) for name in names}
    prefix = f"av_grounding.{room}."
    wrong = [
        f"{name} imports {other}"
        for name, other in module_edges()
        if name.startswith(prefix) and other.startswith(prefix)
        for mine, theirs in [(name.split(".")[2], other.split(".")[2])]
        if mine in level and mine != theirs and level.get(theirs, -1) >= level[mine]
    ]
    assert wrong == []


def test_streaming_stands_on_three_rooms():
    taken = {
        room_of(imported)
        for room, imported, _ in EDGES
        if room == "streaming" and imported.startswith("av_grounding.")
    }
    assert taken <= STREAMING_TAKES
    assert {"types", "audio", "image"} <= taken


def test_signal_rooms_know_no_runtime_and_no_driver():
    wrong = [
        f"{path} imports {imported}"
        for room, imported, path in EDGES
        if room in WITHOUT_RUNTIMES and imported.split(".")[0] in RUNTIMES
    ]
    assert wrong == []


def test_the_reader_of_imports_sees_them_all(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import torch.nn\nfrom av_grounding import image, __version__\nfrom . import ring\n"
        "def f():\n    from ..sources.camera import Camera\n"
    )
    found = set(imports_of(path, "av_grounding.streaming.module", is_package=False))
    assert found == {
        *("torch.nn", "av_grounding.image", "av_grounding", "av_grounding.streaming"),
        "av_grounding.sources.camera",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "import av_grounding; assert av_grounding.__version__",
        "from av_grounding.cli import build_parser as b; assert 'doctor' in b().format_help()",
        "import av_grounding.config",
    ],
)
def test_import_stays_light(statement):
    report = f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; {report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == []


@pytest.mark.parametrize("room", WITHOUT_RUNTIMES)
def test_signal_rooms_load_no_runtime(room):
    report = f"print(*(name for name in {sorted(RUNTIMES)!r} if name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys, av_grounding.{room}; {report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == []


def test_top_level_is_the_documented_one():
    documented = {
        *("av_grounding", "launch", "config", "models", "tests", "package.xml", "setup.py"),
        *("README.md", ".ci", "Makefile", "pyproject.toml", "CHANGELOG.md", "LICENSE", "docs"),
        *("constraints.txt", ".gitignore", "SECURITY.md", "findings"),
    }
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: what is built here cannot be told from what belongs here")
    present = {line.split("/")[0] for line in listed.stdout.splitlines() if (ROOT / line).exists()}
    assert present - documented == set()
    assert {"av_grounding", "config", "tests", "package.xml", "setup.py", "Makefile"} <= present


def test_no_class_name_occurs_twice():
    """A name says what a thing is: two things of one name cannot be told apart in a talk."""
    found = {}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(name)
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
