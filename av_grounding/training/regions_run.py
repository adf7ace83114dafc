"""A run of the seac recipe: regions, association, bundle; in the drawn world or on clips.

The paper's encoders were pretrained on photographs and AudioSet: its preset takes them, and class
embeddings come later, from CLIP's text side (`av-grounding classes`). The small run begins with
the frozen backbones of a bundle. In the drawn world, whose texts are names of 18 classes, the
embeddings that CLIP would give are learned from labelled regions, as CLIP learned its own from
captions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from av_grounding.config import default_bundle, drawn_world_bundle
from av_grounding.files import replacing, sha256
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.bundle_config import WEIGHTS_FILE, store_spec
from av_grounding.modeling.dual_encoder import head_specs
from av_grounding.modeling.pretrained import load_exactly, load_from_hub, read_vggish
from av_grounding.modeling.region_model import RegionModel
from av_grounding.modeling.sam import SamProposals
from av_grounding.modeling.vggish import VggishBackbone
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene_bank import CELL_PX, SceneBank
from av_grounding.training.configuration import SeacRun
from av_grounding.training.data.open import check_clips, holds_clips, open_clips
from av_grounding.training.data.region_bank import RegionBank
from av_grounding.training.data.region_batches import (
    ClipPictures,
    ClipRegions,
    ScenePictures,
    SceneRegions,
)
from av_grounding.training.fitting.calibration import (
    fit_cases,
    reliability_facts,
    synthetic_cases,
)
from av_grounding.training.fitting.held_out import calibrate_on_clips
from av_grounding.training.loop import distributed
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.material import build_banks, spec_of, window_of
from av_grounding.training.paper_configuration import SeacPaperRun
from av_grounding.training.recipes.seac import RegionContrast

logger = logging.getLogger(__name__)
CLASS_STEPS, CLASS_SCALE = 300, 20.0
SOUND_TRUNK = ("sound", "sound_options")
AnySeacRun = SeacRun | SeacPaperRun


def run_seac(
    config: AnySeacRun, data: Path, out: Path, progress: Progress, regions: Path | None = None
) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds clips, or the synthetic banks, which are drawn on first use. `regions` is the
    folder of the bank of regions, by default data/regions; runs of other proposals or views need
    another, or each would make it anew. ValueError for data that does not serve, and for other
    settings than the run began with.
    """
    is_real = holds_clips(data)
    if isinstance(config, SeacPaperRun):
        check_clips(data)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
        torch.manual_seed(config.loop.seed)
        model = build_model(config, is_real, progress)
        regions = regions or data / "regions"
        if is_real:
            batches = open_clip_regions(config, model, data, regions, progress)
        else:
            batches = open_scene_regions(config, model, data, out, regions, progress)
    # Which classes a picture shows is known of drawn ones alone.
    masks_negatives = config.recipe.masks_negatives and not is_real
    recipe = replace(
        config.recipe, mixing_steps=config.loop.steps, masks_negatives=masks_negatives
    )
    trained = train(
        RegionContrast(model, recipe), batches, config.loop, out / config.recipe_name,
        on_step=lambda step, row: progress(config.stage, step + 1, config.loop.steps, row),
    )  # fmt: skip
    if distributed.rank() > 0:
        return out / "bundle"
    model = trained.model.float().cpu().eval()
    info = {
        "recipe": config.recipe_name,
        "temperature": round(float(trained.temperature.detach()), 5),
        "settings": config.to_json(),
    }
    spec = spec_of(config, model, head_specs(model.heads), compares="cosine")
    vocabulary = None
    if not is_real:
        info["things"], vocabulary = list(CLASSES), {"sound": list(CLASSES)}
    bundle = save_bundle(
        out / "bundle", model, spec, name=config.name, info=info,
        vocabulary=vocabulary,
    )  # fmt: skip
    draw_curves(out, out / "curves.png")
    if is_real:
        held_out = open_clips(data, "val", config.model.sample_rate_hz, config.window_s)
        size = config.data
        calibrate_on_clips(
            bundle, {kind: held_out[kind] for kind in held_out if kind == "sound"},
            size.num_calibration_samples, size.calibration_seed, progress,
        )  # fmt: skip
    else:
        calibrate(bundle, config, progress)
    return bundle


def build_model(config: AnySeacRun, is_real: bool, progress: Progress) -> RegionModel:
    """The model with its frozen parts: pretrained ones, or those of the bundle it starts from."""
    if isinstance(config, SeacPaperRun):
        progress("weights", 0, 1, {})
        return pretrained_model(config)
    start = load_bundle(start_of(config, is_real)).model
    own = {
        f"{side}_{name}": getattr(start.config, f"{side}_{name}")
        for side in ("image", "audio")
        for name in ("backbone", "options")
    }
    if start.config.audio_backbone == "per_head":  # of which only one is trained for sounds
        own["audio_options"] = {
            name: value for name, value in own["audio_options"].items() if name in SOUND_TRUNK
        }
    if is_real:
        own["num_classes"] = 0
    model = RegionModel(replace(config.model, **own, normalize_audio=start.config.normalize_audio))
    for name in ("image_backbone", "audio_backbone"):
        part, state = getattr(model, name), getattr(start, name).state_dict()
        part.load_state_dict({key: state[key] for key in part.state_dict()})
    return model


def start_of(config: SeacRun, is_real: bool) -> Path:
    """The bundle whose backbones the small run takes: one that knows what it will see."""
    return Path(config.start or (default_bundle() if is_real else drawn_world_bundle()))


def pretrained_model(config: SeacPaperRun) -> RegionModel:
    """Detector, segmenter, CLIP and VGGish with their weights."""
    sources = config.pretrained
    heard = read_vggish(sources.audio)  # before networks of gigabytes are built
    model = RegionModel(config.model)
    if config.model.image_backbone != "clip" or not isinstance(
        model.audio_backbone, VggishBackbone
    ):
        raise ValueError(
            f"backbones are {config.model.image_backbone!r} and {config.model.audio_backbone!r}; "
            "expected clip and vggish: --preset synthetic --set start=BUNDLE takes any other"
        )
    load_exactly(model.audio_backbone, heard, sources.audio)
    load_from_hub(model.image_backbone.clip, sources.image)
    if isinstance(model.proposals, SamProposals):
        model.proposals.load(sources.segmenter, sources.detector)
    return model


def open_scene_regions(
    config: SeacRun, model: RegionModel, data: Path, out: Path, regions: Path, progress: Progress
) -> Dataset:
    """Batches of drawn pictures, whose classes the model learns to name."""
    build_banks(config, data, progress)
    scenes = SceneBank(data / "scenes")
    RegionBank.build(
        regions, model, ScenePictures(scenes), config.num_scenes, told(progress, "regions")
    )
    learn_classes(model, scenes, config.num_scenes, out / "classes.safetensors")
    return SceneRegions(
        data, config.loop.seed, **window_of(config, model), regions=regions,
        num_scenes=config.num_scenes, batch_size=config.data.batch_size,
    )  # fmt: skip


def open_clip_regions(
    config: AnySeacRun,
    model: RegionModel,
    data: Path,
    regions: Path,
    progress: Progress,
) -> Dataset:
    """Batches of the sounds among the clips in `data`."""
    found = open_clips(data, "train", config.model.sample_rate_hz, config.window_s)
    clips = found.get("sound")
    if clips is None:
        raise ValueError(f"{data} has no clips of sounds for training: see data shard")
    pictures = ClipPictures(
        clips, config.views_per_clip, short_side_px=config.short_side_px, patch_px=model.patch_px
    )
    if torch.cuda.is_available():
        model.cuda()
    RegionBank.build(regions, model, pictures, len(clips), told(progress, "regions"))
    return ClipRegions(
        clips, regions, config.loop.seed, batch_size=config.data.batch_size,
        num_samples=window_of(config, model)["num_samples"],
    )  # fmt: skip


def told(progress: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stage, done, total, {})


def learn_classes(model: RegionModel, scenes: SceneBank, num_scenes: int, path: Path) -> None:
    """Give `model` class embeddings, learned from the regions of labelled training pictures."""
    if not path.exists():
        features, classes = labelled_regions(model, scenes, num_scenes)
        with replacing(path) as partial:
            save_file({"class_embeddings": class_embeddings(features, classes)}, partial)
    with torch.no_grad():
        model.class_embeddings.copy_(load_file(path)["class_embeddings"])


@torch.no_grad()
def labelled_regions(
    model: RegionModel, scenes: SceneBank, num: int
) -> tuple[Float[Tensor, "m d"], Int[Tensor, " m"]]:
    """Embeddings and classes of the true regions of one view of `num` scenes."""
    features, classes = [], []
    for picture, index in zip(scenes.images[:num, 0], scenes.index[:num, 0], strict=True):
        shown = np.unique(index[index > 0])
        if shown.size:
            large = index.repeat(CELL_PX, 0).repeat(CELL_PX, 1)
            features.append(model.region_features(picture, large == shown[:, None, None]))
            classes.extend(int(one) - 1 for one in shown)
    return torch.cat(features), torch.tensor(classes)


def class_embeddings(
    features: Float[Tensor, "m d"], classes: Int[Tensor, " m"]
) -> Float[Tensor, "y d"]:
    """Unit vectors whose cosines tell the classes apart: a softmax regression on cosines."""
    features = F.normalize(features.float(), dim=1)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(len(CLASSES), features.shape[1], generator=generator)
    weights.requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.05)
    for _ in range(CLASS_STEPS):
        optimizer.zero_grad()
        cosines = features @ F.normalize(weights, dim=1).T
        F.cross_entropy(CLASS_SCALE * cosines, classes).backward()
        optimizer.step()
    embeddings = F.normalize(weights.detach(), dim=1)
    right = ((features @ embeddings.T).argmax(dim=1) == classes).float().mean()
    logger.info("class embeddings: %.0f %% of %d regions right", 100 * right, len(classes))
    return embeddings


def calibrate(bundle: Path, config: SeacRun, progress: Progress) -> None:
    """Fit the head's calibration on the synthetic validation split and store it."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    cases = synthetic_cases(
        grounder, config.data.num_calibration_samples, config.data.calibration_seed,
        told(progress, "calibration"),
    )  # fmt: skip
    calibrations, reliabilities = fit_cases(grounder, cases)
    info = {
        **reliability_facts(reliabilities),
        "start": sha256(start_of(config, is_real=False) / WEIGHTS_FILE)[:16],
    }
    store_spec(bundle, grounder.spec.with_heads(calibration=calibrations), info)
