"""A plain install: every command without its extra says in one line what installs it."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from av_grounding import cli, extras

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "synthetic-small"
# What is hidden is not there, for imports and for find_spec.
RUN = """
import contextlib, importlib.machinery, io, json, sys
hidden, commands = map(json.loads, sys.argv[1:])
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition(".")[0] in hidden else find(name, *rest)
)
from av_grounding.cli import main
results = []
for argv in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""
# Which extra is named where none is installed; of two, the one that is needed first.
NAMED = {
    "run demo --as-fast-as-possible": "synthetic",
    "run PICTURE --audio none --record r.mcap": "bag",
    "run PICTURE --audio none --view 0": "view",
    "run PICTURE --audio none --dds": "dds",
    "run bag:r.mcap": "bag",
    "run dds --image /image --audio /audio": "dds",
    "render r.mcap --out clip.mp4": "bag",
    "synth --out s --num 1 --seed 0 --split val": "synthetic",
    "synth --out s --demo": "synthetic",
    "train sss --data d --out r": "synthetic",
    "train denseav --data d --out r": "synthetic",
    "reproduce --data d --out r --page r.md": "synthetic",
    "evaluate synthetic --out e": "synthetic",
    "evaluate vgg-ss --data d --out e": "evaluate",
    "heads --model MODEL": "synthetic",
    "calibrate --model MODEL --data d": "synthetic",
    "export --backend cpu --out x": "synthetic",
    "bench --duration 1": "synthetic",
    "bench --matrix --duration 1": "evaluate",
}
NEED_NONE = (
    "run PICTURE --audio none --out o --json",
    "ground PICTURE CLIP --out g --json",
    "separate PICTURE CLIP --model SEPARATOR --out s --json",
    "doctor --json",
)


def run_without(hidden, commands, folder):
    result = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(hidden), json.dumps(commands)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What every command says and returns where no extra is installed."""
    from tests.test_cli import write_clip, write_picture

    folder = tmp_path_factory.mktemp("plain")
    places = {
        "PICTURE": write_picture(folder / "picture.png"),
        "CLIP": write_clip(folder / "clip.wav"),
        "MODEL": MODEL,
        "SEPARATOR": ROOT / "models" / "synthetic-separator",
    }
    (folder / "r.mcap").write_bytes(b"\x89MCAP0\r\n")
    commands = [*NAMED, *NEED_NONE]
    argvs = [[str(places.get(word, word)) for word in line.split()] for line in commands]
    hidden = sorted({name for names in extras.MODULES.values() for name in names})
    return dict(zip(commands, run_without(hidden, argvs, folder), strict=True))


@pytest.mark.parametrize("command", NAMED)
def test_a_command_names_the_line_that_installs_what_it_lacks(plain, command):
    code, out, err = plain[command]
    assert (code, out) == (2, "")
    lines = err.strip().splitlines()
    assert f"pip install 'av_grounding[{NAMED[command]}]'" in lines[-1]
    assert lines[-1].startswith("av-grounding: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", NEED_NONE)
def test_a_command_that_needs_no_extra_runs_without_any(plain, command):
    code, out, err = plain[command]
    assert (code, err) == (0, "")
    assert json.loads(out)


def test_doctor_names_every_extra_that_is_missing(plain):
    findings = {f["name"]: f for f in json.loads(plain["doctor --json"][1])["findings"]}
    for extra in extras.MODULES:
        finding = findings[f"[{extra}]"]
        assert finding["state"] == "optional"
        assert finding["remedy"] == f"{sys.executable} -m pip install 'av_grounding[{extra}]'"
    assert "no espeakng_loader, scipy" in findings["[synthetic]"]["detail"]
    assert findings["Python"]["state"] == "ok"


def test_a_missing_requirement_is_named_too(tmp_path):
    (tmp_path / "c").write_text("{}")
    argv = ["ground", "a.png", "b.wav", "--out", "o", "--config", "c"]
    ((code, _, err),) = run_without(["yaml"], [argv], tmp_path)
    assert code == 2
    assert err == "av-grounding: yaml is not installed: av-grounding doctor says what to install\n"


def test_extras_are_those_of_setup():
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    call = next(node for node in ast.walk(setup) if isinstance(node, ast.Call) and node.keywords)
    given = next(k.value for k in call.keywords if k.arg == "extras_require")
    asked = {
        extra: {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines}
        for extra, lines in ast.literal_eval(given).items()
    }
    assert asked.keys() - extras.MODULES.keys() == {"fuzz", "test"}
    distributions = {"ot": "POT", "piper": "piper_tts", "sklearn": "scikit_learn"}
    for extra, modules in extras.MODULES.items():
        assert {distributions.get(name, name) for name in modules} == asked[extra], extra
    assert extras.PURPOSES.keys() == extras.MODULES.keys()


def test_what_has_no_wheel_here_is_told_with_its_condition(tmp_path, monkeypatch):
    facts = tmp_path / "av_grounding-9.dist-info" / "METADATA"
    facts.parent.mkdir()
    facts.write_text(
        "Metadata-Version: 2.1\nName: av_grounding\nVersion: 9\n"
        "Requires-Dist: numpy>=1.26\n"
        'Requires-Dist: mcap>=1.6; extra == "bag"\n'
        'Requires-Dist: nncf; python_version >= "3.0" and extra == "cpu"\n'
        'Requires-Dist: cyclonedds; (machine == "m68k" and python_version < "3.0") '
        'and extra == "dds"\n'.replace("machine", "platform_machine")
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.metadata.version("av_grounding") == "9"
    told = "platform_machine == 'm68k' and python_version < '3.0'"
    assert extras.left_out() == {"cyclonedds": told}


def test_modules_of_our_own_bugs_are_not_explained_away():
    error = ModuleNotFoundError("another sentence", name="scipy")
    assert cli._one_line(error) == "another sentence"
