"""`localization` beside scikit-learn and a plain exact PRO: values and seconds, side by side.

    python tests/benchmarks/bench_metrics.py

160 maps of 256 x 256, with the screw masks of MVTec AD when FMABS_DATA names a folder that holds
them and drawn masks otherwise. Each of the three references runs alone, in this process, on the
same arrays. Nothing here is a pass mark; the values are tested in tests/method/test_metrics.py.
"""

import sys
import time
from pathlib import Path

from sklearn.metrics import average_precision_score, roc_auc_score

from fmabs_lite.metrics import localization

sys.path.insert(0, str(Path(__file__).parents[1] / "method"))
from test_metrics import maps_for, pro_by_cumulative_sums, screw_masks  # noqa: E402


def seconds(function, repeats: int):
    """The function's result and its best time of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, min(times)


def main() -> None:
    masks, origin = screw_masks(160)
    print(f"{masks.shape[0]} masks of {masks.shape[1:]}, {origin}, {masks.mean():.2%} defect")
    truth = masks.ravel()
    for kind in ("float32", "float64", "quantised"):
        maps = maps_for(masks, kind)
        flat = maps.ravel()
        ours, ours_s = seconds(lambda m=maps: localization(m, masks), 3)
        references = {
            "auroc": lambda f=flat: roc_auc_score(truth, f),
            "ap": lambda f=flat: average_precision_score(truth, f),
            "pro": lambda m=maps: pro_by_cumulative_sums(m, masks, 0.3),
        }
        total = 0.0
        for name, reference in references.items():
            value, took = seconds(reference, 1)
            total += took
            print(
                f"{kind:10} {name:6} reference {value:.9f} ({took:5.2f} s)   "
                f"ours {ours[name]:.9f}   difference {abs(value - ours[name]):.1e}"
            )
        print(
            f"{kind:10} all three: {total:.2f} s against {ours_s:.2f} s: "
            f"ratio {total / ours_s:.1f}\n"
        )


if __name__ == "__main__":
    main()
