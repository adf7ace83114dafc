"""A small IS3, for its loaders and for the builder of its extension."""

import numpy as np

from tests.helpers import trees

PAIRS = (("cat_alarmclock_1828", ("cat", "alarmclock")), ("fox_train", ("fox", "subway")))
BOXES = {"cat": [0, 0, 61, 122], "alarmclock": [115, 61, 224, 224]}
PITCH_HZ = {"cat": 400, "alarmclock": 700, "fox": 1000, "subway": 1300}


def write_is3(root):
    """Two pictures of two objects, and a third with a single annotation."""
    annotations = []
    names = [(group, target) for group, targets in PAIRS for target in targets]
    for group, target in [*names, ("lion_dog_7", "dog")]:
        name = f"{group}_{target}"
        trees.picture(root / "images" / f"{name}.jpg", trees.GREEN, (224, 224))
        trees.tone(root / "audio_wav" / f"{name}.wav", PITCH_HZ.get(target, 200), 2.0)
        x0, y0, x1, y1 = BOXES.get(target, [10, 20, 30, 40])
        mask = np.zeros((224, 224), np.uint8)
        mask[y0:y1, x0:x1] = 255
        trees.label(root / "gt_segmentation" / f"{name}.png", mask)
        annotations.append(
            {
                "image": f"/authors/visual_frames/{name}.jpg",
                "audio": f"/authors/audio_wav/{name}.wav",
                "gt_box": [float(x0), float(y0), float(x1), float(y1)],
            }
        )
    trees.objects(root / "IS3_annotation.json", annotations)
    return root
