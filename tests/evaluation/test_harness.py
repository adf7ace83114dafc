"""The harness on answers that are known: what it adds up, lists, leaves out, and repeats."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from av_grounding.benchmarking.scoring import drawn_jobs
from av_grounding.evaluation import harness
from av_grounding.evaluation.benchmark import (
    AudioClip,
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    PairSample,
    SampleProblem,
    SemanticSample,
    SeparationSample,
    SeparationSource,
    Target,
)
from av_grounding.evaluation.evaluating import evaluate_benchmark
from av_grounding.evaluation.metrics.maps import upsample
from av_grounding.evaluation.metrics.pointing import peak_hit, peak_leak
from av_grounding.evaluation.metrics.prompted import mean_iou, pooled_average_precision
from av_grounding.evaluation.metrics.separation import scale_invariant_sdr
from av_grounding.evaluation.prediction import HeadGrids, PairFeatures
from av_grounding.evaluation.protocols import PROTOCOLS, find_protocol, protocols_of
from av_grounding.evaluation.scoring import separating
from av_grounding.evaluation.scoring.pairs import similarity_matrices

SIZE, NUM = 24, 12
CLIP = AudioClip(np.zeros(160, np.float32), 16_000)


def mask(index, head="sound"):
    rng = np.random.default_rng((index, head == "speech"))
    height, width = rng.integers(6, 16, 2)
    top, left = rng.integers(0, SIZE - 16, 2)
    result = np.zeros((SIZE, SIZE), np.float32)
    result[top : top + height, left : left + width] = 1.0
    return result


def empty_mask():
    return np.zeros((SIZE, SIZE), np.float32)


def image(index):
    return np.full((SIZE, SIZE, 3), index, np.uint8)


def clip():
    return CLIP


def missing():
    raise FileNotFoundError(2, "No such file", "gone.wav")


def target(index, head="sound", load_mask=None, **more):
    load_mask = load_mask or partial(mask, index, head)
    return Target(head=head, class_name=f"class {index % 3}", load_mask=load_mask, **more)


def sample(index, **changes):
    values = {
        "id": f"s{index:03d}",
        "load_image": partial(image, index),
        "load_clip": clip,
        "targets": (target(index),),
        "group": f"g{index // 2}",
        "video_id": f"v{index // 3}",
    }
    return GroundingSample(**{**values, **changes})


def benchmark(task, samples, **changes):
    info = BenchmarkInfo(
        name="test", task=task, heads=("sound", "speech"), citation="", num_expected=None
    )
    return ListBenchmark(info, tuple(samples), **changes)


class Answers:
    """Answers every image with maps made for it: image `index` is filled with its index."""

    def __init__(self, maps):
        self.maps = maps

    def ground(self, image, clip, word_span_s=None, frame_s=None):
        index = int(image[0, 0, 0])
        maps = {head: make(index) for head, make in self.maps.items()}
        return HeadGrids(maps, is_by_target=True)

    def describe(self):
        return {"heads": ("sound", "speech")}


def right(index, head="sound"):
    return (12.0 * mask(index, head) - 6.0)[None]


def guess(index, head="sound"):
    rng = np.random.default_rng((index, 7, head == "speech"))
    grid = rng.normal(size=(1, 6, 6)) + 1.5 * mask(index, head)[::4, ::4]
    return grid.astype(np.float32)


ORACLE = Answers({"sound": right, "speech": partial(right, head="speech")})
GUESS = Answers({"sound": guess, "speech": partial(guess, head="speech")})


def all_of(task):
    """But seac's, which needs regions with names."""
    return tuple(one for name, one in protocols_of(task).items() if name != "seac")


def test_results_do_not_depend_on_workers_or_chunks(monkeypatch):
    set_of = benchmark("localisation", map(sample, range(NUM)))
    first = evaluate_benchmark(set_of, GUESS, all_of("localisation"), num_workers=0)
    for num_workers, chunk in ((0, 1), (2, 3)):
        monkeypatch.setattr(harness, "CHUNK", chunk)
        other = evaluate_benchmark(set_of, GUESS, all_of("localisation"), num_workers=num_workers)
        assert other.rows == first.rows
        assert other.tables == first.tables
        assert other.extras == first.extras
    assert [row["id"] for row in first.rows] == [f"s{i:03d}" for i in range(NUM)]


def test_a_sample_scores_the_same_whatever_stands_beside_it():
    rows = [
        [one.row for one in harness.score_samples(jobs, "localisation", all_of("localisation"), 0)]
        for jobs in (list(drawn_jobs(6, 64)), list(drawn_jobs(6, 64))[2:3])
    ]
    assert rows[0][2] == rows[1][0]


def test_the_right_answer_reaches_the_ceiling():
    table = evaluate_benchmark(
        benchmark("localisation", map(sample, range(NUM))), ORACLE, all_of("localisation")
    ).tables
    for name in ("abs0.5", "sweep19", "frac_of_max0.5"):
        for metric in table[name]["model"]:
            # A map of a small thing is not sure over a quarter of the pixels, however right.
            if metric not in ("threshold", "peak", "f1@0.5"):
                assert table[name]["model"][metric] == pytest.approx(1.0)
    for name in table.keys() - {"pixel_binarised_swapped"}:  # which asks for half of the pixels
        model, ceiling = table[name]["model"], table[name]["ceiling"]
        assert (model["ap"], ceiling["ap"]) == pytest.approx((1.0, 1.0))
        assert model["peak"] == 1.0
        areas = [mask(i).mean() for i in range(NUM)]
        assert table[name]["whole_image"]["mean_iou"] == pytest.approx(np.mean(areas))
        assert table[name]["whole_image"]["ap"] == pytest.approx(np.mean(areas))
    # Half of the pixels cannot be right where the object is smaller.
    expected = np.mean([area / 0.5 for area in areas])
    assert table["median_ge"]["ceiling"]["mean_iou"] == pytest.approx(expected)
    # Two values alone: the background ties at the median, and nothing of it is above.
    assert table["median_gt"]["model"]["mean_iou"] == 1.0 > expected


def test_what_cannot_be_scored_is_listed_and_enters_no_mean():
    good = [sample(i) for i in range(4)]
    bad = [
        sample(4, load_clip=missing),
        sample(5, targets=(target(5, load_mask=empty_mask),)),
        sample(6, targets=(target(6, load_mask=missing),)),
        sample(7),
    ]

    class Broken(Answers):
        def ground(self, image, *rest):
            grids = super().ground(image, *rest)
            if image[0, 0, 0] == 7:
                grids.logits["sound"][0, 2, 2] = np.nan
            return grids

    box = SampleProblem("malformed_box", "s000", "[nan, 0, 1, 1]")
    mixed = [bad[0], good[0], bad[1], good[1], bad[2], good[2], bad[3], good[3]]
    result = evaluate_benchmark(
        benchmark("localisation", mixed, problems=(box,)), Broken(GUESS.maps)
    )
    clean = evaluate_benchmark(benchmark("localisation", good), GUESS)
    assert result.tables == clean.tables
    assert result.rows == clean.rows
    assert (result.num_samples, len(result.rows)) == (8, 4)
    found = [(problem.kind, problem.sample_id) for problem in result.problems]
    assert found == [
        ("malformed_box", "s000"),
        ("empty_ground_truth", "s005"),
        ("missing_file", "s004"),
        ("missing_file", "s006"),
        ("prediction_not_finite", "s007"),
    ]
    assert "gone.wav" in result.problems[2].detail
    assert all(problem.kind in harness.POLICY for problem in result.problems)
    with pytest.raises(ValueError, match=r"none of 1 samples.*gone\.wav"):
        evaluate_benchmark(benchmark("localisation", bad[:1]), GUESS)


def test_prompted_numbers_are_the_metrics_of_pooled_classes():
    samples = [
        sample(i, targets=(target(i), target(i, "speech", word_span_s=(0.0, 1.0))))
        for i in range(NUM)
    ]
    result = evaluate_benchmark(
        benchmark("simultaneous", samples), GUESS, all_of("simultaneous"), num_workers=0
    )
    classes = [f"class {i % 3}" for i in range(NUM)]
    for head in ("sound", "speech"):
        grids = [guess(i, head)[0] for i in range(NUM)]
        maps = [upsample(grid, SIZE, SIZE, "bilinear") for grid in grids]
        masks = [mask(i, head) > 0 for i in range(NUM)]
        expected = {
            "oracle20_per_class": mean_iou(maps, masks, classes).mean,
            "oracle20_shared": mean_iou(maps, masks, classes, "oracle20_shared").mean,
        }
        for name, miou in expected.items():
            row = result.tables[name]["model"]
            ap = pooled_average_precision(maps, masks, classes)
            assert row[f"{head}_mAP"] == pytest.approx(ap.mean)
            assert row[f"{head}_miou"] == pytest.approx(miou)
        peaks = [peak_hit(*pair) for pair in zip(maps, masks, strict=True)]
        assert row[f"{head}_peak"] == pytest.approx(np.mean(peaks))
        others = [mask(i, "speech" if head == "sound" else "sound") > 0 for i in range(NUM)]
        leaks = [peak_leak(*one) for one in zip(maps, masks, others, strict=True)]
        assert row[f"{head}_leakage"] == pytest.approx(np.mean(leaks))
    total = result.tables["oracle20_per_class"]["model, total of both heads"]
    both = [np.maximum(guess(i)[0], guess(i, "speech")[0]) for i in range(NUM)]
    maps = [upsample(grid, SIZE, SIZE, "bilinear") for grid in both]
    masks = [mask(i) > 0 for i in range(NUM)]
    expected = pooled_average_precision(maps, masks, classes).mean
    assert total["sound_mAP"] == pytest.approx(expected)
    assert "model, word timing given" in result.tables["oracle20_per_class"]
    bins = result.extras["size_bins"]["calibrated0.5"]
    assert sum(one["num"] for one in bins.values()) == 2 * NUM
    assert all(0.0 < one["mean_iou"] < 1.0 for one in bins.values())
    perfect = evaluate_benchmark(
        benchmark("simultaneous", samples), ORACLE, all_of("simultaneous"), num_workers=0
    )
    for name, table in perfect.tables.items():
        for row in ("model", "ceiling"):
            for metric, value in table[row].items():
                wanted = 0.0 if "leakage" in metric and row == "ceiling" else 1.0
                if "leakage" not in metric:
                    assert value == pytest.approx(wanted), (name, row, metric)
    assert perfect.tables["calibrated0.5"]["whole_image"]["sound_mAP"] < 0.5


def test_extended_needs_silence_to_be_dark():
    def dark(index):
        return right(index) if index < 6 else np.full((1, 6, 6), -9.0, np.float32)

    samples = [sample(i) for i in range(6)]
    samples += [sample(i, presence="silent", load_clip=None) for i in range(6, 9)]
    samples += [sample(i, presence="off_screen") for i in range(9, 12)]
    set_of = benchmark("extended", samples)
    table = evaluate_benchmark(set_of, Answers({"sound": dark}), (PROTOCOLS["abs0.5"],)).tables
    model = table["abs0.5"]["model"]
    assert (model["max_f1"], model["loc_acc"], model["nsa"]) == (1.0, 1.0, 1.0)
    always = evaluate_benchmark(set_of, ORACLE, (PROTOCOLS["abs0.5"],)).tables["abs0.5"]["model"]
    # The first step of recall is dropped, here that of samples with the same confidence.
    assert always["ext_ap"] < model["ext_ap"] < 1.0
    assert always["loc_acc"] == 1.0
    assert always["max_f1"] < 0.9
    assert always["nsa"] < 1.0


def test_interactive_counts_an_image_once():
    def half_right(index):
        return right(index) if index % 4 else -right(index)

    table = evaluate_benchmark(
        benchmark("interactive", map(sample, range(8))),
        Answers({"sound": half_right}),
        (PROTOCOLS["abs0.5"],),
    ).tables["abs0.5"]["model"]
    assert table["ciou@0.5"] == 0.75
    assert table["iiou@0.5"] == 0.5


def test_sources_are_matched_as_the_protocol_says():
    def swapped(index):
        return np.stack([right(index, "speech")[0], right(index)[0]])

    samples = [
        sample(i, targets=(target(i), target(i, load_mask=partial(mask, i, "speech"))))
        for i in range(6)
    ]
    tables = evaluate_benchmark(
        benchmark("multi_source", samples), Answers({"sound": swapped}), all_of("multi_source")
    ).tables
    assert tables["median_gt"]["model"]["cap"] < 0.8
    assert tables["median_gt"]["model"]["piap"] == 1.0
    for name in ("hungarian", "greedy"):
        assert tables[name]["model"]["mean_iou"] > tables["median_gt"]["model"]["mean_iou"]
    assert tables["pooled"]["ceiling"]["piap"] == 1.0
    shares = [mask(i, head).mean() for i in range(6) for head in ("sound", "speech")]
    assert tables["pooled"]["whole_image"]["piap"] == pytest.approx(np.mean(shares))


def test_videos_weigh_alike_however_long():
    def only_first_video(index):
        return right(index) if index < 3 else -right(index)

    samples = [sample(i) for i in range(4)]
    tables = evaluate_benchmark(
        benchmark("segmentation", samples),
        Answers({"sound": only_first_video}),
        all_of("segmentation"),
    ).tables
    assert tables["per_video"]["model"]["miou"] == pytest.approx(0.5, abs=1e-6)
    assert tables["batch_invariant"]["model"]["miou"] == pytest.approx(0.75, abs=1e-6)
    assert tables["per_video"]["ceiling"]["f"] == 1.0
    assert tables["per_video"]["model"]["f"] < 0.75 <= tables["batch_invariant"]["model"]["f"]


def class_map(index):
    return (mask(index) * (1 + index % 2)).astype(np.int64)


def test_classes_come_from_prompts_and_padding_is_a_choice():
    class Classifier(Answers):
        def classify(self, image, clip, prompts):
            index = int(image[0, 0, 0])
            assert list(prompts) == ["bell", "dog"]
            assert prompts["dog"]() is CLIP
            classes = np.zeros((2, SIZE, SIZE), np.float32)
            classes[index % 2] = 1.0
            return HeadGrids({"sound": right(index), "classes": classes})

    info = BenchmarkInfo(
        name="test",
        task="semantic",
        heads=("sound",),
        citation="",
        num_expected=None,
        class_names=("background", "bell", "dog"),
    )
    samples = tuple(
        SemanticSample(
            id=f"s{i}",
            load_image=partial(image, i),
            load_clip=clip,
            load_class_map=partial(class_map, 3 if i == 2 else i),
            is_padding=i == 2,
        )
        for i in range(3)
    )
    spoken = ListBenchmark(info, samples, load_prompt=lambda name: CLIP)
    tables = evaluate_benchmark(spoken, Classifier({}), all_of("semantic")).tables
    assert tables["avss_without_padding"]["model"]["miou"] == pytest.approx(1.0)
    assert tables["avss"]["model"]["miou"] < 0.9
    with pytest.raises(ValueError, match="tells no classes"):
        evaluate_benchmark(spoken, ORACLE)


def features(index):
    rng = np.random.default_rng(index)
    image_part = rng.normal(size=(2, 5, 12)).astype(np.float32)
    tokens = rng.normal(size=(2, 3 + index % 4, 5)).astype(np.float32)
    return PairFeatures(image_part, tokens)


class Features(Answers):
    def features(self, image, clip):
        return features(int(image[0, 0, 0]))


def pair(index, head="speech"):
    return PairSample(
        id=f"p{index}",
        load_image=partial(image, index),
        load_clip=clip,
        head=head,
        class_name=f"class {index % 3}",
    )


def test_similarities_are_the_maximum_over_space_and_the_mean_over_time():
    known = [features(i) for i in range(5)]
    scores = similarity_matrices(known)
    for i, visual in enumerate(known):
        for j, heard in enumerate(known):
            volume = np.einsum("kcr,ktc->ktr", visual.image, heard.tokens)
            expected = volume.max(axis=2).mean(axis=1)
            np.testing.assert_allclose(scores[:, i, j], expected, rtol=1e-5)


def test_retrieval_names_the_opposite_head():
    result = evaluate_benchmark(benchmark("retrieval", map(pair, range(6))), Features({}))
    table = result.tables["recall"]
    assert list(table) == [
        "model, total of both heads",
        "model, sound head, the opposite head",
        "model, speech head",
        "chance",
        "ceiling",
    ]
    scores = similarity_matrices([features(i) for i in range(6)])
    own = np.mean([scores[1][i].argmax() == i for i in range(6)])
    assert table["model, speech head"]["i2a_r1"] == pytest.approx(own)
    total = scores.sum(axis=0)
    assert table["model, total of both heads"]["a2i_r1"] == pytest.approx(
        np.mean([total[:, i].argmax() == i for i in range(6)])
    )
    assert [row["num_before_i2a"] == 0 for row in result.rows] == [
        total[i].argmax() == i for i in range(6)
    ]
    with pytest.raises(ValueError, match="maps alone"):
        evaluate_benchmark(benchmark("retrieval", [pair(0)]), ORACLE)


def test_recognition_and_disentanglement_run_on_the_same_pairs():
    known = evaluate_benchmark(benchmark("recognition", map(pair, range(6))), Features({}))
    row = known.tables["nearest_neighbour"]["model"]
    assert all(0.0 <= value <= 1.0 for value in row.values())
    assert "ir_acc_i2a_of_128" not in row

    class Wholes(Features):
        """Whose picture and clip as wholes are one and the same vector."""

        def features(self, image, clip):
            one = super().features(image, clip)
            vector = np.eye(6, dtype=np.float32)[int(image[0, 0, 0])]
            return replace(one, wholes=(vector, vector))

    known = evaluate_benchmark(benchmark("recognition", map(pair, range(6))), Wholes({}))
    assert known.tables["nearest_neighbour"]["model, vectors of wholes"]["ir_acc_i2a"] == 1.0
    both = [pair(i, "sound" if i < 3 else "speech") for i in range(6)]
    apart = evaluate_benchmark(benchmark("disentanglement", both), Features({}))
    row = apart.tables["head_permutation"]["model"]
    assert 0.5 <= row["pred_dis"] <= 1.0


def tone(hz):
    # Faded and detuned: a pure tone could be filtered out of any other.
    t = np.arange(6000) / 11_025
    noise = np.random.default_rng(hz).normal(size=6000)
    return AudioClip(
        (np.sin(2 * np.pi * hz * t) * np.hanning(6000) + 0.05 * noise).astype(np.float32), 11_025
    )


def mixture():
    return AudioClip(tone(300).waveform + tone(2000).waveform, 11_025)


def test_separation_stands_between_the_mixture_and_the_ideal_mask():
    sources = tuple(
        SeparationSource(
            class_name=str(hz), load_image=partial(image, i), load_clip=partial(tone, hz)
        )
        for i, hz in enumerate((300, 2000))
    )
    set_of = benchmark(
        "separation", [SeparationSample(id="m", load_mixture=mixture, sources=sources)]
    )
    alone = evaluate_benchmark(set_of, ORACLE)
    references = ["mixture", "nmf", "ideal_binary_mask", "ideal_dominant_mask"]
    assert list(alone.tables["bss_eval_v3"]) == references
    assert "nothing" in alone.extras["note"]

    class Separator(Answers):
        def separate(self, images, mixture):
            assert [int(one[0, 0, 0]) for one in images] == [0, 1]
            clean = np.stack([tone(300).waveform, tone(2000).waveform])
            return clean + 0.1 * clean[::-1]

    table = evaluate_benchmark(set_of, Separator({})).tables["bss_eval_v3"]
    assert table["mixture"]["sdr"] < table["ideal_binary_mask"]["sdr"]
    assert table["model"]["sir"] > 15.0 > table["mixture"]["sir"]
    # A tenth of the other tone: 20 dB below the right one, and 20 dB above it for the wrong one,
    # but for the noise that the two share.
    assert table["model"]["si_sdr"] == pytest.approx(20.0, abs=0.5)
    assert table["swapped_image"]["si_sdr"] == pytest.approx(-20.0, abs=0.5)
    assert table["mixture"]["si_sdr"] == pytest.approx(0.0, abs=0.5)
    assert table["mixture"]["sdr_gain"] == 0.0
    gain = table["model"]["sdr"] - table["mixture"]["sdr"]
    assert table["model"]["sdr_gain"] == pytest.approx(gain)
    assert table["ideal_dominant_mask"]["sdr"] > 13.0
    assert table["ideal_dominant_mask"]["sir"] > table["ideal_binary_mask"]["sir"]


def test_factors_tell_apart_what_does_not_begin_and_end_together():
    time_s = np.arange(16_000) / 16_000
    low = np.sin(2 * np.pi * 300 * time_s) * (time_s < 0.6)
    high = np.sin(2 * np.pi * 2000 * time_s) * (time_s > 0.4)
    references = np.stack([low, high])
    estimates = separating.masked(low + high, separating.nmf_masks(low + high, 2))
    np.testing.assert_allclose(estimates.sum(axis=0), low + high, atol=1e-6)
    for order in ([0, 1], [1, 0]):
        best = separating.in_best_order(references, estimates[order])
        assert (scale_invariant_sdr(references, best) > 15.0).all()


def test_a_silent_estimate_is_scored_and_counted():
    sources = tuple(
        SeparationSource(
            class_name=str(hz), load_image=partial(image, 0), load_clip=partial(tone, hz)
        )
        for hz in (300, 2000)
    )
    sample = SeparationSample(id="m", load_mixture=mixture, sources=sources)

    class Mute(Answers):
        def separate(self, images, mixture):
            return np.stack([tone(300).waveform, np.zeros_like(tone(300).waveform)])

    result = evaluate_benchmark(benchmark("separation", [sample]), Mute({}))
    (row,) = result.rows
    assert row["num_silent_estimates"] == 1
    # Of white noise the 512 taps of BSS-eval explain 512 of 6000 samples.
    assert row["rows"]["model"]["sdr"][1] == pytest.approx(10 * np.log10(512 / 6000), abs=0.5)
    assert row["rows"]["model"]["si_sdr"][1] < -20.0
    assert row["rows"]["model"]["sdr"][0] > 40.0


def test_protocols_are_found_by_name_and_fit_their_task():
    assert find_protocol(None, "localisation").name == "median_gt"
    with pytest.raises(ValueError, match="did you mean 'median_gt'"):
        find_protocol("median_gd", "localisation")
    with pytest.raises(ValueError, match="oracle20_per_class"):
        find_protocol("median_gt", "prompted")
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.source
        assert protocol.tasks


def test_a_head_that_is_missing_is_named():
    class Deaf(Answers):
        def describe(self):
            return {"heads": ("sound",)}

    samples = map(sample, range(2))
    with pytest.raises(ValueError, match="test asks for speech, this model has sound: take"):
        evaluate_benchmark(benchmark("prompted", samples), Deaf({"sound": right}))


def test_maps_of_a_model_that_knows_no_classes_count_as_one_where_one_is_asked_for():
    class Unnamed(Answers):
        def ground(self, *asked):
            return replace(super().ground(*asked), is_by_target=False)

    def several(index):
        return np.stack([right(index, "speech")[0], right(index)[0]])

    def both(index):
        return several(index).max(axis=0, keepdims=True)

    samples = [
        sample(i, targets=(target(i), target(i, load_mask=partial(mask, i, "speech"))))
        for i in range(6)
    ]
    several, both = (
        evaluate_benchmark(
            benchmark("multi_source", samples), Unnamed({"sound": make}), all_of("multi_source")
        ).tables
        for make in (several, both)
    )
    as_one, as_two = both["median_gt"]["model"], several["median_gt"]["model"]
    assert as_two | {"peak": 0, "count_right": 0} == as_one | {"peak": 0, "count_right": 0}
    assert (as_one["count_right"], as_two["count_right"]) == (0.0, 1.0)
    # Swapped maps are paired on their overlap, for CAP too.
    assert as_two["peak"] == several["hungarian"]["model"]["cap"] == 1.0
    assert several["hungarian"]["model"]["mean_iou"] > both["hungarian"]["model"]["mean_iou"]
    alone = [sample(i) for i in range(6)]
    first, second = (
        evaluate_benchmark(benchmark("localisation", alone), Unnamed({"sound": make})).tables
        for make in (lambda i: np.stack([right(i)[0], right(i)[0] - 1.0]), right)
    )
    assert first == second


def test_a_map_too_many_scores_nothing_where_the_protocol_counts_it():
    class Unnamed(Answers):
        def ground(self, *asked):
            return replace(super().ground(*asked), is_by_target=False)

    def make(num):
        def maps(index):
            own = [right(index, "speech")[0], right(index)[0]]
            return np.stack([*own, *[np.full_like(own[0], -6.0)] * (num - 2)])

        return maps

    samples = [
        sample(i, targets=(target(i), target(i, load_mask=partial(mask, i, "speech"))))
        for i in range(6)
    ]
    two, three = (
        evaluate_benchmark(
            benchmark("multi_source", samples),
            Unnamed({"sound": make(num)}),
            all_of("multi_source"),
        ).tables
        for num in (2, 3)
    )
    for metric in ("cap", "mean_iou", "ciou@0.3"):
        expected = two["greedy"]["model"][metric] * 2 / 3
        assert three["greedy"]["model"][metric] == pytest.approx(expected)
        assert three["hungarian"]["model"][metric] == two["hungarian"]["model"][metric]
    assert three["greedy"]["model"]["count_right"] == 0.0
    # Rows that are no model's have as many maps as there are sources.
    assert three["greedy"]["centred_disc"] == two["greedy"]["centred_disc"]


def test_pictures_side_by_side_are_scored_each_by_itself_where_the_protocol_says_so():
    half = SIZE // 2
    left, right_half = np.zeros((2, SIZE, SIZE), np.float32)
    left[8:16, 2:10] = right_half[8:16, half + 2 : half + 10] = 1.0

    def loud_and_faint(index):
        return (10.0 * left + right_half)[None]

    targets = (
        target(0, load_mask=lambda: left, tile=(0.0, 0.5)),
        target(0, load_mask=lambda: right_half, tile=(0.5, 1.0)),
    )
    tables = evaluate_benchmark(
        benchmark("multi_source", [sample(0, targets=targets)]),
        Answers({"sound": loud_and_faint}),
        all_of("multi_source"),
    ).tables
    greedy = tables["greedy"]
    # One map answers for both tiles; in each the object is all that is above the median.
    assert greedy["model"]["mean_iou"] == pytest.approx(1.0)
    assert greedy["model"]["cap"] == pytest.approx(1.0)
    share = 64 / (SIZE * half)
    assert greedy["whole_image"]["mean_iou"] == pytest.approx(share)
    assert tables["hungarian"]["whole_image"]["mean_iou"] == pytest.approx(share / 2)
    # A disc in every tile finds what a disc in the whole picture misses.
    assert greedy["centred_disc"]["mean_iou"] > tables["hungarian"]["centred_disc"]["mean_iou"]


def test_the_number_of_boxes_and_the_strata_of_mixtures_have_rows_of_their_own():
    few, many = (((0.0, 0.0, 0.5, 0.5),) * num for num in (1, 3))
    chosen = [few, few, many, few]
    samples = [
        sample(i, targets=(target(i, boxes=boxes),)) for i, boxes in enumerate(chosen)
    ]  # fmt: skip
    table = evaluate_benchmark(benchmark("localisation", samples), GUESS).tables["median_gt"]
    assert set(table) == {
        *("model", "whole_image", "centred_disc", "ceiling"),
        *("model, 1 box", "ceiling, 1 box", "model, 3 boxes or more", "ceiling, 3 boxes or more"),
    }
    whole, one, three = (
        table[name]["mean_iou"] for name in ("model", "model, 1 box", "model, 3 boxes or more")
    )
    assert 4 * whole == pytest.approx(3 * one + three)
    plain = evaluate_benchmark(benchmark("localisation", samples[:2]), GUESS)
    assert len(plain.tables["median_gt"]) == 4
    sources = tuple(
        SeparationSource(
            class_name=str(hz), load_image=partial(image, 0), load_clip=partial(tone, hz)
        )
        for hz in (300, 2000)
    )
    mixtures = [
        SeparationSample(id=name, load_mixture=mixture, sources=sources, stratum=name)
        for name in ("Easy", "Hard")
    ]
    result = evaluate_benchmark(benchmark("separation", mixtures), ORACLE)
    table = result.tables["bss_eval_v3"]
    assert table["mixture, Hard"] == pytest.approx(table["mixture"])
    assert {"mixture, Easy", "ideal_dominant_mask, Easy"} < set(table)
    assert "Scored at 11,025 Hz." in result.extras["note"]


def test_localisation_has_f1_at_one_threshold_and_the_three_kinds_of_precision():
    samples = [sample(i) for i in range(NUM)]
    tables = evaluate_benchmark(benchmark("localisation", samples), GUESS, [
        find_protocol(name, "localisation")
        for name in ("median_gt", "pixel_binarised_swapped", "pooled")
    ]).tables  # fmt: skip
    model = tables["median_gt"]["model"]
    success = model["ciou@0.5"]
    assert model["max_f1"] >= 2 * success / (1 + success) - 1e-12
    assert 0.0 <= model["f1@0.5"] <= model["max_f1"] + 1e-12
    assert 0.0 < tables["pooled"]["model"]["piap"] < 1.0
    # Of half of the pixels; of a random map it would be 0.5, however small the object is.
    swapped = tables["pixel_binarised_swapped"]["model"]["ap"]
    assert 0.5 < swapped < 1.0
    assert swapped != pytest.approx(model["ap"], abs=1e-3)
