"""The page of measured numbers: its commands exist, and a section is replaced and nothing else."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from av_grounding.benchmarking import performance
from av_grounding.benchmarking.audio_front import measure_clips, measure_front
from av_grounding.benchmarking.performance import SECTIONS, Section, main, measure, replaced
from av_grounding.cli import build_parser

ROOT = Path(__file__).parents[2]
MODULES = {"av_grounding.benchmarking.audio_front", "av_grounding.benchmarking.growth"}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_the_page_has_a_place_for_every_section_and_its_command_exists(section):
    assert "new" in replaced((ROOT / section.page).read_text(), section.name, ["new"])
    program, *arguments = shlex.split(section.command)
    if program == "av-grounding":
        build_parser().parse_args([*arguments, "--out", "out"])
    else:
        assert arguments[0] == "-m"
        assert arguments[1] in MODULES
    for command in section.before:
        program, *arguments = shlex.split(command)
        assert program == "av-grounding"
        build_parser().parse_args(arguments)


def test_only_what_is_between_the_marks_changes():
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    assert replaced(page, "x", ["1", "2"]) == "a\n<!-- begin x -->\n1\n2\n<!-- end x -->\nb\n"
    assert replaced(replaced(page, "x", ["1"]), "x", ["old"]) == page
    with pytest.raises(ValueError, match="begin y"):
        replaced(page, "y", [])


def test_a_run_puts_its_result_into_the_page(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("import json; print(json.dumps({'value': 7}))")
    section = Section("x", "python -m program", None, lambda result: [f"is {result['value']}"])
    monkeypatch.setattr(performance, "SECTIONS", (section,))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    page = tmp_path / "page.md"
    page.write_text("<!-- begin x -->\n<!-- end x -->\n")
    main(["--page", str(page), "--out", str(tmp_path)])
    lines = page.read_text().splitlines()
    assert lines[1] == "`python -m program`"
    assert lines[-2:] == ["is 7", "<!-- end x -->"]
    assert sys.executable not in page.read_text()
    assert measure(section, tmp_path)[-1] == "is 7"


def test_what_a_command_needs_is_done_before_it(tmp_path, monkeypatch):
    (tmp_path / "made.py").write_text("import pathlib; pathlib.Path('made.json').write_text('3')")
    (tmp_path / "reader.py").write_text("print(open('made.json').read())")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    section = Section("x", "python -m reader", None, lambda n: [f"is {n}"], ("python -m made",))
    lines = measure(section, tmp_path)
    assert lines[:4] == ["```", "python -m made", "python -m reader", "```"]
    assert lines[-1] == "is 3"


def test_the_front_and_the_clips_are_measured_for_real(monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda num: None)  # would hold for all tests
    monkeypatch.setattr("av_grounding.benchmarking.audio_front.WINDOW_S", 1.0)
    monkeypatch.setattr("av_grounding.benchmarking.audio_front.HOP_S", 0.1)
    monkeypatch.setattr("av_grounding.benchmarking.audio_front.BATCHES", (1, 2))
    monkeypatch.setattr("av_grounding.benchmarking.audio_front.NUM_ROUNDS", 1)
    front = measure_front(
        2, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    assert front["max_difference"] < 1e-5
    assert front["cpu_ms"]["front_kept"] > 0.0
    clips = measure_clips()
    assert list(clips["cpu_ms_per_window"]) == ["1", "2"]
    assert clips["max_difference"] < 1e-5
    for section, result in (("front", front), ("clips", clips)):
        lines = next(one.lines for one in SECTIONS if one.name == section)
        assert all(isinstance(line, str) for line in lines(json.loads(json.dumps(result))))
