"""Time several functions in turns, and print each beside a yardstick."""

import time
from collections.abc import Callable
from statistics import median, quantiles


def seconds(run: Callable) -> float:
    """What one call costs this process on the processor, without its waiting for others."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(
    title: str, runs: dict[str, Callable], yardstick: str, rounds: int, images: int
) -> list[dict[str, float]]:
    """Print a table, and return the seconds of every round.

    The ratio is the median of the rounds' ratios to the yardstick, the spread their quartiles.
    """
    for run in [*runs.values()] * 2:  # the first pass allocates, and surveys a teacher
        run()
    took = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds)]
    print(f"\n{title}, {rounds} rounds\n{'':26}{'ms':>8}{'images/s':>10}   ratio   spread")
    for name in runs:
        ratios = [row[name] / row[yardstick] for row in took]
        low, _, high = quantiles(ratios, n=4)
        middle = median(row[name] for row in took)
        print(
            f"{name:26}{1000 * middle:8.1f}{images / middle:10.1f}   {median(ratios):5.3f}"
            f"   {low:.3f} … {high:.3f}"
        )
    return took
