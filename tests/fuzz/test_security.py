"""What SECURITY.md claims: its numbers are the code's, its tests exist, and no file is run."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from av_grounding import audio
from av_grounding import files as reading
from av_grounding import image_header as coded
from av_grounding.config import files
from av_grounding.modeling import bundle_checks
from av_grounding.streaming.clock import SampleClock
from av_grounding.transports.bag import limits as bag_limits
from av_grounding.transports.messages import image as messages_image
from av_grounding.transports.topics import sources as topic_sources
from av_grounding.viewer import address, client, messages

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "joblib.load"),
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.unsafe_load"),
    *("yaml.full_load", "torch.hub.load", "dill.loads", "cloudpickle.loads"),
}


def called(node):
    """`a.b.c(…)` -> `a.b.c`."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def faults(source, path):
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, options = called(node), {k.arg: ast.unparse(k.value) for k in node.keywords}
        is_wrong = (
            name in FORBIDDEN
            or (name == "torch.load" and options.get("weights_only") != "True")
            or (name.endswith("np.load") and options.get("allow_pickle", "False") != "False")
            or (name == "yaml.load" and options.get("Loader") != "loader")
            or options.get("shell", "False") != "False"
            or options.get("trust_remote_code", "False") != "False"
        )
        if is_wrong:
            yield f"{path}:{node.lineno} {name}"


def test_nothing_in_the_package_can_run_a_file():
    found = [
        fault
        for path in sorted((ROOT / "av_grounding").rglob("*.py"))
        for fault in faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "pickle.loads(data)", "torch.load(path)", "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)", "eval(text)", "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(text, shell=True)", "Model.from_pretrained(name, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_reader_of_calls_sees_them(source):
    assert len(list(faults(source, "x"))) == 1


def test_limits_are_the_stated_ones():
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE))
    stated = {name: [int(n) for n in re.findall(r"\d+", text)] for name, text in rows.items()}
    gap_s = inspect.signature(SampleClock).parameters["max_gap_s"].default
    expected = {
        "a raw image": [coded.MAX_SIDE_PX, messages_image.MAX_NUM_PX],
        "a JPEG or PNG on a topic": [
            coded.MAX_CODED_PX,
            coded.MAX_PX_PER_BYTE,
            coded.ALWAYS_FINE_PX,
        ],
        "a picture file": [coded.MAX_OPENCV_PX],
        "sound": [audio.MAX_CHANNELS, audio.MAX_SAMPLE_RATE_HZ],
        "sound that waits on a topic": [topic_sources.MAX_WAITING_CHUNKS],
        "a gap in sound that is filled": [int(gap_s)],
        "a parameter file": [files.MAX_BYTES, files.MAX_DEPTH],
        "a bundle's config.json": [
            reading.MAX_CONFIG_BYTES,
            bundle_checks.MAX_LAYERS,
            bundle_checks.MAX_WIDTH,
        ],
        "a list of a data set": [reading.MAX_LIST_BYTES],
        "a chunk or message of a bag, unpacked": [bag_limits.MAX_CHUNK_BYTES],
        "a bag's metadata.yaml": [
            bag_limits.MAX_METADATA_BYTES,
            bag_limits.MAX_METADATA_DEPTH,
        ],
    }
    assert {name: stated.get(name) for name in expected} == expected


def test_limits_of_the_page_are_the_stated_ones():
    server = pytest.importorskip("av_grounding.viewer.server", exc_type=ImportError)
    row = next(line for line in TEXT.splitlines() if line.startswith("| clients of the page"))
    numbers = [server.MAX_CLIENTS, messages.MAX_CLIENT_MESSAGE_BYTES, client.MAX_MESSAGES_PER_S]
    assert [int(n) for n in re.findall(r"\d+", row)] == numbers
    assert f"at least {address.MIN_TOKEN_LENGTH} characters" in TEXT
    source = Path(server.__file__).read_text(encoding="utf-8")
    assert "hmac.compare_digest(self._token.encode(), given)" in source
    assert sys.modules[server.__name__].web.Application


def test_every_test_it_names_exists():
    named = re.findall(r"`(?:(test_\w+)\.py::)?(test_\w+)`", TEXT)
    assert len(named) > 12
    sources = {p.stem: p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py")}
    for file, test in named:
        places = [sources[file]] if file else sources.values()
        assert any(f"def {test}(" in source for source in places), f"{file}::{test}"


def test_opencv_keeps_to_the_stated_number_of_pixels():
    """It reads its limit once, when it is loaded: in a process of its own."""
    code = (
        "import av_grounding, cv2, numpy, zlib\n"
        "image = numpy.zeros((8, 8, 3), numpy.uint8)\n"
        "data = bytearray(cv2.imencode('.png', image)[1].tobytes())\n"
        "data[16:24] = (12_000).to_bytes(4, 'big') * 2\n"
        "data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')\n"
        "cv2.imdecode(numpy.frombuffer(data, numpy.uint8), 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "MAX_IMAGE_PIXELS" in done.stderr
    assert coded.MAX_OPENCV_PX < 12_000 * 12_000
