"""The three files of a report, and the command that writes them."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_harness as known

from av_grounding.cli import main
from av_grounding.evaluation.evaluating import evaluate_benchmark
from av_grounding.evaluation.report.content import LABELS, build_report, cell, finite
from av_grounding.evaluation.report.markdown import to_markdown
from av_grounding.evaluation.report.pictures import choose
from av_grounding.evaluation.report.write import write_report

pytest.importorskip("matplotlib")
MODEL = {"bundle": "models/one", "mode": "whole clip", "window_s": 2.56, "hop_s": 1.2}


@pytest.fixture(scope="module")
def evaluation():
    samples = [known.sample(i) for i in range(known.NUM)]
    samples.append(known.sample(3, id="gone <b>", load_clip=known.missing))
    set_of = known.benchmark("localisation", samples)
    return evaluate_benchmark(set_of, known.GUESS, known.all_of("localisation"))


@pytest.fixture(scope="module")
def report(evaluation):
    other = evaluate_benchmark(
        known.benchmark("localisation", map(known.sample, range(known.NUM))),
        known.ORACLE,
        known.all_of("localisation"),
    )
    return build_report(evaluation, MODEL, against=(other, {**MODEL, "bundle": "models/two"}))


def test_report_says_what_every_report_must_say(report):
    assert report["protocol"] == report["threshold"] == "median_gt"
    assert report["matching"] == "class_given"
    assert (report["num_samples"], report["num_scored"]) == (known.NUM + 1, known.NUM)
    assert report["num_missing_files"] == 1
    assert report["problems"]["counts"] == {"missing_file": 1}
    assert report["problems"]["list"][0]["detail"].endswith("'gone.wav'")
    for one in report["protocols"].values():
        assert list(one["table"]) == ["model", "whole_image", "centred_disc", "ceiling"]
        assert {"threshold", "matching", "upsampling", "source"} <= set(one["definition"])
    assert len(report["samples"]) == known.NUM
    assert set(report["spread"]["ciou@0.5"]["by_protocol"]) <= set(report["protocols"])
    gain = report["comparison"]["abs0.5"]["mean_iou"]
    assert gain["difference"] == pytest.approx(gain["second"] - gain["first"])
    assert gain["low"] > 0.0


def test_markdown_has_the_tables_and_the_facts(report):
    text = to_markdown(report)
    assert "- samples: 12 scored, 13 present; missing files: 1" in text
    assert "- protocol: median_gt; threshold: median_gt; matching: class_given" in text
    value = cell("ciou@0.5", report["protocols"]["abs0.5"]["table"]["model"]["ciou@0.5"])
    section = text[text.index("## Protocol `abs0.5`") :]
    (row,) = re.findall(r"^\| model \| ([^|]+) \|", section[: section.index("## ", 5)], re.M)
    assert row == value
    assert "| second: whole clip |" in text
    assert "95 % paired bootstrap" in text


def test_files_are_whole_and_refer_to_nothing_outside(report, evaluation, tmp_path):
    write_report(tmp_path, report, evaluation)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]

    def refuse(name):
        raise AssertionError(name)

    stored = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert stored == report
    page = (tmp_path / "report.html").read_text()
    assert '<meta name="viewport"' in page
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert sources
    assert all(source.startswith(("data:image/jpeg", "#")) for source in sources)
    assert page.count("<img") == 3 * known.NUM
    assert page.count("<svg") >= 4
    assert "gone &lt;b&gt;" in page
    assert "gone <b>" not in page
    encoded = re.search(r"base64,([^\"]+)", page)[1]
    import base64

    picture = cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 240, 3)


def test_best_and_worst_are_opposite_ends(evaluation):
    chosen = choose(evaluation, 3)
    scores = {name: [score for _, score in own] for name, own in chosen.items()}
    everything = sorted(score for _, score in choose(evaluation, known.NUM)["best"])
    assert scores["worst"] == everything[:3]
    assert scores["best"] == everything[:-4:-1]
    assert scores["worst"][-1] <= min(scores["median"])
    assert max(scores["median"]) <= scores["best"][-1]


def test_json_takes_no_nan_and_every_metric_has_a_label(report):
    assert finite({"a": (float("nan"), float("inf"), 1.0)}) == {"a": [None, None, 1.0]}
    assert cell("sdr", None) == "–"
    assert (cell("ap", 0.5), cell("sdr", 0.5), cell("threshold", 0.65)) == ("50.0", "0.50", "0.65")
    for one in report["protocols"].values():
        for row in one["table"].values():
            assert set(row) <= set(LABELS)


def open_known(name, root=None, *, num=None, seed=0, part=None):
    assert (root, seed, part) == (None, 0, "test")
    samples = [
        known.sample(i, targets=(known.target(i), known.target(i, "speech")), load_clip=hiss)
        for i in range(num)
    ]
    return known.benchmark("simultaneous", samples)


def hiss():
    samples = np.random.default_rng(0).normal(size=8_000) * 0.1
    return known.AudioClip(samples.astype(np.float32), 16_000)


def test_the_command_measures_the_stream_against_the_whole_clip(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("av_grounding.evaluation.benchmarks.open_benchmark", open_known)
    bundle = Path(__file__).parents[2] / "models" / "synthetic-small"
    command = ["evaluate", "synthetic-simultaneous", "--num", "2", "--out", str(tmp_path)]
    command += ["--model", str(bundle)]
    assert main([*command, "--streaming", "--hop", "0.16,0.32", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert shown["model"]["mode"] == "whole clip"
    assert shown["against"]["model"]["mode"] == "streaming"
    assert [point["hop_s"] for point in stored["sweep"]["points"]] == [0.16, 0.32]
    assert "sound_mAP_per_sample" in stored["comparison"]["oracle20_per_class"]
    assert "The stream by window and hop" in (tmp_path / "report.md").read_text()
    assert len(stored["samples"]) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["synthetic-duet", "--protocol", "median_gd"], ["median_gd", "median_gt"]),
        (["vgg-ss"], ["folder", "vggss.json"]),
        (["synthetic", "--noise", "x"], ["--snr"]),
        (["synthetic", "--hop", "0.1"], ["--streaming"]),
        (["synthetic-duett"], ["synthetic-duett", "synthetic-duet"]),
        (["synthetic", "--streaming", "--against", "x"], ["--against"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(options, words, tmp_path, capsys):
    try:
        code = main(["evaluate", *options, "--out", str(tmp_path / "out")])
    except SystemExit as error:
        code = error.code
    assert code == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    for word in words:
        assert word in message
    assert not (tmp_path / "out").exists()
