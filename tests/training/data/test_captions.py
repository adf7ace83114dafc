"""Captions beside shards: whose they are, what is checked, and a model that really answers."""

import json
import tarfile
from io import BytesIO

import cv2
import numpy as np
import pytest

from av_grounding.cli import main
from av_grounding.training.data import captioning
from av_grounding.training.data.captions import (
    Caption,
    CaptionRow,
    captions_path,
    parse_answer,
    read_captions,
)
from av_grounding.training.data.shards import list_members

CLIPS = [["bell"], ["dog", "cat"], [], ["dog", "dog"]]


def write_shard(path, clips=CLIPS, color=60):
    """As `data shard` leaves them, but for the sound, which captions do without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, labels in enumerate(clips):
            files = {"json": json.dumps({"labels": labels}).encode()}
            for still in range(3):
                image = np.full((24, 32, 3), color * (still + 1), np.uint8)
                files[f"{still}.png"] = cv2.imencode(".png", image)[1].tobytes()
            for suffix, data in files.items():
                info = tarfile.TarInfo(f"{number:06d}_000.{suffix}")
                info.size = len(data)
                tar.addfile(info, BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    write_shard(tmp_path / "train/sound-000000.tar")
    write_shard(tmp_path / "train/sound-000001.tar", [["bird"]], color=40)
    rows = [
        {"file": f"train/sound-00000{n}.tar", "split": "train", "kind": "sound", "num_clips": num}
        for n, num in enumerate((4, 1))
    ]
    (tmp_path / "shards.json").write_text(json.dumps({"format": 1, "shards": rows}))
    return tmp_path


class Talker:
    """Answers by a function of the labels, and remembers what it was shown."""

    def __init__(self, reply, name="talker"):
        self.reply, self.name, self.seen = reply, name, []

    def describe(self):
        return {"model": self.name}

    def answer(self, images, labels):
        self.seen += [
            (int(image[0, 0, 0]), tuple(names))
            for image, names in zip(images, labels, strict=True)
        ]
        return [self.reply(names) for names in labels]


def good(labels):
    captions = [f"an image of a ringing {name}" for name in labels]
    value = {"foreground": captions, "background": "an image of a wall"}
    return f"Sure:\n```json\n{json.dumps(value)}\n```"


def test_an_answer_is_read_through_talk_and_fences_and_one_text_stands_for_a_list():
    assert parse_answer(good(["bell"]), 1) == Caption(
        ("an image of a ringing bell",), "an image of a wall"
    )
    assert parse_answer('{"foreground": "a bell", "background": ""}', 1) == Caption(("a bell",))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("I cannot see.", "expected a JSON object, got 'I cannot see.'"),
        ("{" * 9000 + "}", "expected a JSON object"),
        ("{'foreground': 1}", "expected JSON"),
        ('{"foreground": "a bell"}', "expected foreground and background"),
        ('{"foreground": "a bell", "background": ""}', "1 captions of what sounds; expected 2"),
        ('{"foreground": ["a", "b", "c"], "background": ""}', "3 captions of what sounds"),
        ('{"foreground": ["a", "a"], "background": ""}', "two of the captions are the same"),
        ('{"foreground": ["a", 3], "background": ""}', "expected foreground and background"),
        ('{"foreground": ["a", "b\\u0007"], "background": ""}', "expected one printable line"),
        ('{"foreground": ["a", "b"], "background": ["wall"]}', "background is .'wall'.; expected"),
        (json.dumps({"foreground": ["a", "b" * 500], "background": ""}), "of 1 to 400 characters"),
        ('{"foreground": ' + "[" * 3000 + "]" * 3000 + "}", "expected"),
    ],
)
def test_what_does_not_fit_is_a_problem_and_not_mended(answer, message):
    with pytest.raises(ValueError, match=message):
        parse_answer(answer, 2)


def test_every_clip_gets_its_captions_or_a_problem_by_its_middle_picture(shards):
    talker = Talker(good)
    seen = []
    report = captioning.caption_shards(
        shards, talker, batch_size=2, progress=lambda *counts: seen.append(counts)
    )
    assert (report["num_captioned"], report["num_problems"]) == (3, 2)
    assert talker.seen == [(120, ("bell",)), (120, ("dog", "cat")), (80, ("bird",))]
    assert seen[-1] == (5, 5)
    rows = read_captions(shards / "train/sound-000000.tar")
    ringing = tuple(f"an image of a ringing {name}" for name in ("dog", "cat"))
    assert rows[1] == CaptionRow(1, 1, Caption(ringing, "an image of a wall"), ("dog", "cat"))
    assert [row.caption is None for row in rows] == [False, False, True, True]
    assert "it has no label" in rows[2].problem
    assert "labels are ('dog', 'dog'); expected each once" in rows[3].problem
    problems = (shards / "caption_problems.jsonl").read_text().splitlines()
    assert [json.loads(line)["clip"] for line in problems] == [2, 3]
    sheet = cv2.imread(str(shards / "captions.png"))
    # A grey picture in each of three tiles, and text under it.
    assert [int(sheet[100, x, 0]) for x in (100, 420, 740)] == [120, 120, 80]
    assert (sheet[325:420, :300].max(axis=2) > 200).any()


def test_a_stopped_run_goes_on_and_other_captions_are_not_mixed_in(shards):
    def stop(labels):
        if labels == ["bird"]:
            raise KeyboardInterrupt
        return good(labels)

    with pytest.raises(KeyboardInterrupt):
        captioning.caption_shards(shards, Talker(lambda names: stop(list(names))))
    assert not captions_path(shards / "train/sound-000001.tar").exists()
    talker = Talker(good)
    assert captioning.caption_shards(shards, talker)["num_captioned"] == 3
    assert talker.seen == [(80, ("bird",))]
    with pytest.raises(ValueError, match=r"written otherwise \(model: 'talker' then, 'other' now"):
        captioning.caption_shards(shards, Talker(good, "other"))


def test_captions_of_another_shard_and_damaged_ones_are_told(shards):
    captioning.caption_shards(shards, Talker(good))
    first = shards / "train/sound-000000.tar"
    path = captions_path(first)
    text = path.read_text()
    write_shard(first, [["bell"], ["dog"]])
    assert len(list_members(first)) == 2
    with pytest.raises(ValueError, match=r"another shard \(files: .*\); remove it"):
        read_captions(first)
    write_shard(first)
    assert len(read_captions(first)) == 4
    for damaged in (text.replace('"clip": 1', '"clip": 9'), text[:-40], "", "[]\n"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="remove it and write it again"):
            read_captions(first)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no sound-000000\.captions\.jsonl beside"):
        read_captions(first)


def test_the_command_captions_from_labels_and_looks_without_writing(shards, capsys):
    assert main(["data", "caption", str(shards), "--from-labels", "--look", "2"]) == 0
    assert "+ an image of bell" in capsys.readouterr().out
    assert (shards / "captions.png").is_file()
    assert not list(shards.rglob("*.captions.jsonl"))
    assert main(["data", "caption", str(shards), "--from-labels", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["num_captioned"], report["num_shards"]) == ("labels", 3, 2)
    rows = read_captions(shards / "train/sound-000000.tar")
    assert rows[1].caption == Caption(("an image of dog", "an image of cat"))
    (shards / "empty").mkdir()
    assert main(["data", "caption", str(shards / "empty"), "--from-labels"]) == 2
    assert "has no shards of sounds; expected what" in capsys.readouterr().err


@pytest.fixture(scope="module")
def small_llava(tmp_path_factory):
    """LLaVA's layout with random weights and a tokenizer of bytes, as a folder on disk."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llava")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = {word: number for number, word in enumerate(["<pad>", "</s>", "<image>", *alphabet])}
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=words, merges=[]))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    image_processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    template = (
        "{% for m in messages %}{% for c in m['content'] %}"
        "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endfor %}"
    )
    transformers.LlavaProcessor(
        image_processor=image_processor, tokenizer=tokenizer, patch_size=8,
        vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    common = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            num_hidden_layers=2, image_size=32, patch_size=8, **common
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=len(words), num_hidden_layers=2, num_key_value_heads=2, pad_token_id=0,
            eos_token_id=1, bos_token_id=1, **common,
        ),
        image_token_index=2,
    )  # fmt: skip
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_a_model_with_random_weights_is_asked_and_its_noise_becomes_problems(
    small_llava, shards, capsys, monkeypatch
):
    from av_grounding.modeling import captioner

    monkeypatch.setattr(captioner, "MAX_NEW_TOKENS", 6)
    model = captioner.MultimodalCaptioner(small_llava, device="cpu")
    grey = np.full((24, 32, 3), 128, np.uint8)
    noise = np.random.default_rng(0).integers(256, size=(40, 32, 3), dtype=np.uint8)
    # Padding of a batch changes no answer.
    both = model.answer([grey, noise], [["bell"], ["dog", "a long label of a cat"]])
    assert both == [
        *model.answer([grey], [["bell"]]),
        *model.answer([noise], [["dog", "a long label of a cat"]]),
    ]
    assert all(isinstance(text, str) for text in both)
    assert model.answer([], []) == []
    assert main(["data", "caption", str(shards), "--model", str(small_llava), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["num_captioned"], report["num_problems"]) == (0, 5)
    assert report["decoding"] == "greedy, 6 tokens"
    assert "expected a JSON object" in (shards / "caption_problems.jsonl").read_text()


def test_models_and_prompts_that_do_not_serve_are_told_in_one_line(shards, tmp_path, capsys):
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "internvl_chat", "auto_map": {"AutoConfig": "x.Y"}})
    )
    assert main(["data", "caption", str(shards), "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expected for instance OpenGVLab/InternVL3-8B-hf" in error
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("What is {this}?")
    common = ["data", "caption", str(shards), "--model", str(folder), "--prompt", str(prompt)]
    assert main(common) == 2
    assert "the prompt has no {labels}" in capsys.readouterr().err
    assert main([*common[:3], "--from-labels", "--prompt", str(prompt)]) == 2
    assert "expected it with --model" in capsys.readouterr().err
