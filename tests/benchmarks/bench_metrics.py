"""`localization` beside scikit-learn and a plain exact PRO, on the same arrays.

The masks are MVTec AD's of the screw where FMABS_DATA names a folder that holds them, else
drawn. That the values are the same is tested in tests/method/test_metrics.py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from rounds import AGAIN, OURS, Comparison
from sklearn.metrics import average_precision_score, roc_auc_score

from fmabs_lite.metrics import localization

sys.path.insert(0, str(Path(__file__).parents[1] / "method"))
from test_metrics import maps_for, pro_by_cumulative_sums, screw_masks  # noqa: E402

REFERENCE = "scikit-learn and a plain PRO"


def comparisons(tiny: bool) -> Iterator[Comparison]:
    """All of this file; with `tiny`, at sizes at which only that it runs can be seen."""
    masks, origin = screw_masks(160)
    source = "drawn" if origin == "drawn" else "MVTec AD's of the screw"
    masks = masks[:: 40 if tiny else 4]
    truth = masks.ravel()
    for kind in ("float32", "quantised"):
        maps = maps_for(masks, kind)

        def references(maps=maps) -> None:
            roc_auc_score(truth, maps.ravel())
            average_precision_score(truth, maps.ravel())
            pro_by_cumulative_sums(maps, masks, 0.3)

        def ours(maps=maps) -> None:
            localization(maps, masks)

        yield Comparison(
            f"Pixel AUROC, average precision and PRO, {kind}",
            f"Of {len(masks)} maps of {masks.shape[1]} × {masks.shape[2]} (masks: {source}), "
            f"{masks.mean():.1%} of their pixels defective, all three exact.",
            "map", len(masks), {OURS: ours, AGAIN: ours, REFERENCE: references},
            against=REFERENCE, share=1 / 3,
        )  # fmt: skip
