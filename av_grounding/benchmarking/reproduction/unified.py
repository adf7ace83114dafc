"""Paper 003's findings in kind on the synthetic world: each objective alone, pairs, and all three,
each measured on every task, and the mask's two targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from av_grounding.audio import Stft
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.benchmarking.reproduction.kept import MAP_PROTOCOL, Result, do_runs, kept
from av_grounding.benchmarking.reproduction.reproduce import pretext_folder
from av_grounding.benchmarking.reproduction.runs import Budget, Run
from av_grounding.benchmarking.reproduction.unified_page import lines
from av_grounding.evaluation.benchmark import SeparationSample
from av_grounding.evaluation.benchmarks import open_benchmark
from av_grounding.evaluation.evaluating import evaluate_benchmark
from av_grounding.evaluation.prediction import GrounderPredictor
from av_grounding.evaluation.scoring import separating
from av_grounding.evaluation.scoring.pairs import WHOLES
from av_grounding.evaluation.scoring.rows import MODEL
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.configuration import OneAvmRun
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.recipes.oneavm import CHOICES, OneAvmConfig, mask_targets
from av_grounding.training.runs import small_spec, train_recipe
from av_grounding.training.settings import override

OBJECTIVES = {"CL": "correspondence", "MAS": "separation", "MVA": "alignment"}
LITERAL = "recipe.mask_target=literal"
COMPARED = ("CL", "MAS", "CL + MAS + MVA")
ABLATIONS = (
    *("MVA", "CL + MAS", "CL + MVA", "MAS + MVA"),
    *("MAS, literal", "CL + MAS + MVA, literal"),
)
BENCHMARKS = {
    "solo": "synthetic-solo",
    "duet": "synthetic-duet",
    "trio": "synthetic-trio",
    "separation": "synthetic-separation",
    "pointed": "synthetic-duet-separation",
    "recognition": "synthetic-recognition",
}


@dataclass(frozen=True)
class UnifiedRun(Run):
    """One training of 003's table."""

    config: OneAvmRun  # type: ignore[assignment]

    @property
    def name(self) -> str:
        return super().name.replace("-+-", "+")


def list_unified_runs(schedule: Budget) -> list[UnifiedRun]:
    """All runs; first one seed of everything.

    No run warms its aligners up, which only the correspondence could do, and all have an image
    backbone that learns: a frozen one leaves mixed pictures nothing to teach it.
    """
    runs = []
    for rows, seeds in ((COMPARED, schedule.seeds), (ABLATIONS, schedule.ablation_seeds)):
        for place, seed in enumerate(seeds):
            for group in rows:
                chosen = group.removesuffix(", literal")
                settings = [
                    f"recipe.weight_{name}={float(short in chosen.split(' + '))}"
                    for short, name in OBJECTIVES.items()
                ] + ([LITERAL] if chosen != group else [])
                shared = (
                    f"loop.steps={schedule.steps}",
                    f"loop.seed={seed}",
                    f"pretext.steps={schedule.pretext_steps}",
                    "aligners.steps=0",
                    f"data.batch_size={schedule.batch_size}",
                    f"recipe.sharpness_steps={round(schedule.steps * 1200 / 3200)}",
                    "recipe.image_backbone_rate=0.1",
                )
                config = override(OneAvmRun(), [*shared, *settings, *schedule.settings])
                runs.append((place, UnifiedRun(group, seed, config)))
    return [run for _, run in sorted(runs, key=lambda placed: placed[0])]


def reproduce_unified(
    schedule: Budget,
    data: Path,
    out: Path,
    page: Path,
    progress: Progress,
    on_run: Callable[[int, int, Run], None] | None = None,
) -> Path:
    """Do what is missing of all runs and write `page`, anew after every run.

    `data` holds the banks of scenes and sounds. ValueError where a run was begun with other
    settings.
    """
    runs = list_unified_runs(schedule)
    oracles = measure_oracles(runs[0].config, schedule.num_samples, out, progress)
    return do_runs(
        runs, schedule.num_samples, out, page,
        lambda run, folder: do_run(run, schedule.num_samples, data, out, folder, progress),
        lambda results: lines(results, oracles, schedule, len(runs), (*COMPARED, *ABLATIONS)),
        on_run,
    )  # fmt: skip


def do_run(
    run: UnifiedRun, num: int, data: Path, out: Path, folder: Path, progress: Progress
) -> Result:
    """Train in `folder`, resuming what is there, and measure; the pretext lies in `out`."""
    recipe, _ = train_recipe(run.config, data, folder, progress, pretext=pretext_folder(run, out))
    model = recipe.model.float().cpu().eval()
    backend = TorchBackend(Bundle(model, small_spec(run.config, model), run.name))
    return measure(
        Grounder(backend), num, lambda done, total: progress("measuring", done, total, {})
    )


def measure(grounder: Grounder, num: int, progress: Callable[[int, int], None]) -> Result:
    """Benchmark -> row of its table -> metric: shares in [0, 1], ratios of separation in dB."""
    predictor, found = GrounderPredictor(grounder), {}
    for name, benchmark in BENCHMARKS.items():
        samples = open_benchmark(benchmark, num=num, seed=0)
        evaluation = evaluate_benchmark(
            samples, predictor, [MAP_PROTOCOL] if samples.info.task in MAP_PROTOCOL.tasks else (),
            num_workers=0, progress=progress,
        )  # fmt: skip
        (table,) = evaluation.tables.values()
        found[name] = {
            row: {key: value for key, value in table[row].items() if isinstance(value, float)}
            for row in (MODEL, WHOLES, separating.SWAPPED, separating.FLOOR_MIXTURE)
            if row in table
        }
        silent = [one.get("num_silent_estimates", 0) for one in evaluation.rows]
        found[name][MODEL]["num_silent_estimates"] = sum(silent)
    return found


def measure_oracles(config: OneAvmRun, num: int, out: Path, progress: Progress) -> Result:
    """Target -> SDR, SIR and SAR of the masks themselves, on the small model's own mel bands.

    No training can do better than its target. Kept in a file, as runs are.
    """

    def make() -> Result:
        model = SeparatingEncoder(config.model)
        samples = open_benchmark(BENCHMARKS["separation"], num=num, seed=0)
        oracles = {}
        for target in CHOICES["mask_target"]:
            rows = []
            for number in range(len(samples)):
                sample = samples[number]
                assert isinstance(sample, SeparationSample)
                clips = [source.load_clip().waveform for source in sample.sources]
                scored = separating.score(sample, oracle_estimates(model, clips, target))
                rows += [] if scored.row is None else [scored.row]
                progress(f"oracle, {target}", number + 1, len(samples), {})
            oracles[target] = separating.summarise(rows)[MODEL]
        return {"oracles": oracles}

    told = {"num_samples": num, "model": config.to_json()["model"]}
    return kept(out / "oracles.json", told, make)["oracles"]


def oracle_estimates(
    model: SeparatingEncoder, clips: Sequence[np.ndarray], target: str
) -> np.ndarray:
    """Both of two clips (s,) out of their sum, (2, s), by the masks that are a run's target."""
    log_mel, spread = model.audio_backbone.log_mel, model.spread.numpy()
    stft, num = Stft(log_mel.window, log_mel.hop), len(clips[0])
    parts = np.pad(np.stack(clips).astype(np.float32), ((0, 0), (0, -num % log_mel.hop)))
    config = OneAvmConfig(mask_target=target)
    masks, _ = mask_targets(log_mel.power, *torch.from_numpy(parts[:, None]), config)
    spectrum, size = stft(parts.sum(axis=0)), parts.shape[1]
    estimates = [stft.inverse(spectrum * (spread.T @ mask.numpy()), size) for mask in masks]
    return np.stack(estimates)[:, :num]
