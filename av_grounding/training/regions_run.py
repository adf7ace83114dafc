"""A run of the seac recipe in the drawn world: regions, class embeddings, association, bundle.

Where the paper has encoders that were pretrained on photographs and AudioSet, the frozen image and
sound backbones here are those of a bundle of this world. Its texts are names of 18 classes, so the
class embeddings that CLIP's text encoder would give are learned from labelled regions, as CLIP
learned its own from captions.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from av_grounding.config import drawn_world_bundle
from av_grounding.files import replacing, sha256
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.bundle_config import WEIGHTS_FILE, store_spec
from av_grounding.modeling.dual_encoder import head_specs
from av_grounding.modeling.region_model import RegionModel
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene_bank import CELL_PX, SceneBank
from av_grounding.training.configuration import SeacRun
from av_grounding.training.data.region_bank import RegionBank, RegionBatches
from av_grounding.training.fitting.calibration import (
    fit_cases,
    reliability_facts,
    synthetic_cases,
)
from av_grounding.training.loop import distributed
from av_grounding.training.loop.curves import draw_curves
from av_grounding.training.loop.loop import train
from av_grounding.training.loop.run_folder import Progress, settle_settings
from av_grounding.training.material import build_banks, spec_of, window_of
from av_grounding.training.recipes.seac import RegionContrast

logger = logging.getLogger(__name__)
CLASS_STEPS, CLASS_SCALE = 300, 20.0


def run_seac(
    config: SeacRun, data: Path, out: Path, progress: Progress, regions: Path | None = None
) -> Path:
    """Train and write `out`/bundle; returns it. A second call resumes where the first stopped.

    `data` holds the synthetic banks, which are drawn on first use. `regions` is the folder of the
    bank of regions, by default data/regions; runs of other proposals or views need another, or
    each would make it anew.
    """
    regions = regions or data / "regions"
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_process_first():
        settle_settings(config, out / "settings.json")
        build_banks(config, data, progress)
        torch.manual_seed(config.loop.seed)
        model = build_model(config)
        scenes = SceneBank(data / "scenes")
        bank = RegionBank.build(
            regions, model, scenes, config.num_scenes,
            lambda done, total: progress("regions", done, total, {}),
        )  # fmt: skip
        learn_classes(model, scenes, bank, out / "classes.safetensors")
    batches = RegionBatches(
        data, config.loop.seed, **window_of(config, model), regions=regions,
        num_scenes=config.num_scenes, batch_size=config.data.batch_size,
    )  # fmt: skip
    recipe = RegionContrast(model, replace(config.recipe, mixing_steps=config.loop.steps))
    trained = train(
        recipe, batches, config.loop, out / config.recipe_name,
        on_step=lambda step, row: progress(config.stage, step + 1, config.loop.steps, row),
    )  # fmt: skip
    if distributed.rank() > 0:
        return out / "bundle"
    model = trained.model.float().cpu().eval()
    info = {
        "recipe": config.recipe_name,
        "things": list(CLASSES),
        "temperature": round(float(trained.temperature.detach()), 5),
        "settings": config.to_json(),
    }
    spec = spec_of(config, model, head_specs(model.heads), compares="cosine")
    bundle = save_bundle(
        out / "bundle", model, spec, name=config.name, info=info,
        vocabulary={"sound": list(CLASSES)},
    )  # fmt: skip
    draw_curves(out, out / "curves.png")
    calibrate(bundle, config, progress)
    return bundle


def build_model(config: SeacRun) -> RegionModel:
    """The model with the backbones of the bundle that it starts from."""
    start = load_bundle(config.start or drawn_world_bundle()).model
    own = {
        f"{side}_{name}": getattr(start.config, f"{side}_{name}")
        for side in ("image", "audio")
        for name in ("backbone", "options")
    }
    model = RegionModel(replace(config.model, **own, normalize_audio=start.config.normalize_audio))
    for name in ("image_backbone", "audio_backbone"):
        getattr(model, name).load_state_dict(getattr(start, name).state_dict())
    return model


def learn_classes(model: RegionModel, scenes: SceneBank, bank: RegionBank, path: Path) -> None:
    """Give `model` class embeddings, learned from the regions of labelled training pictures."""
    if not path.exists():
        features, classes = labelled_regions(model, scenes, len(bank.features))
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
        lambda done, total: progress("calibration", done, total, {}),
    )  # fmt: skip
    calibrations, reliabilities = fit_cases(grounder, cases)
    info = {
        **reliability_facts(reliabilities),
        "start": sha256(Path(config.start or drawn_world_bundle()) / WEIGHTS_FILE)[:16],
    }
    store_spec(bundle, grounder.spec.with_heads(calibration=calibrations), info)
