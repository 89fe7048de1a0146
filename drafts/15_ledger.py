# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which printed numbers hold when run again?

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/fmabs-lite/fmabs-lite/blob/main/book/15_ledger.ipynb) [Source](https://github.com/fmabs-lite/fmabs-lite/blob/main/book/15_ledger.ipynb)

# %% [markdown]
# **What you will be able to do**
#
# - say of a printed number and one of yours whether they agree, before you look at either
# - let the status of a number follow from what was done differently, and not from how it came out
# - tell three kinds of chance apart: other test images, other seeds, many questions
# - say how many seeds a claim needs before any test can support it
#
# **What you need first:** chapter [02](02_metrics.ipynb), and one of [10](10_draem.ipynb) to [14](14_ast_mfr.ipynb). A few seconds on a CPU; a GPU has nothing to do. This chapter trains nothing and reads records only.

# %% tags=["setup"]
try:
    import fmabs_lite
except ModuleNotFoundError:  # on Colab, or wherever the package is not installed yet
    # %pip install -q "fmabs-lite @ git+https://github.com/fmabs-lite/fmabs-lite"

# %%
from collections.abc import Collection, Sequence
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np

from fmabs_lite.chance import bootstrap, resampled
from fmabs_lite.exercises import check
from fmabs_lite.ledger import (
    POINT,
    SMALLER,
    STATUSES,
    PrintedCell,
    averages_again,
    count_statuses,
    judge_claims,
    misses_first,
    read_ledger,
    read_slips,
)
from fmabs_lite.plots import PALETTE, say, table, use_style
from fmabs_lite.records import paper_table
from fmabs_lite.seeds import spread

use_style()

# %% tags=["parameters"]
resamples = 2000  # test sets drawn for an interval over test images
sound = 41  # sound images of the example there; the screw's test set has as many
anomalous = 119  # and as many defective ones
shift = 1.0  # how much higher a defect's score is on average, in deviations
seed = 0  # of the example's scores

# %% [markdown]
# ## The answer first
#
# Two papers print the tables. The records of chapters 10 to 14 hold what we measured. The *ledger* puts them side by side: each printed number, ours where one speaks to it, and a status. Statuses are worked out from the records, by a rule that this chapter states.

# %%
cells = read_ledger()
counted = count_statuses(cells)
ours = [cell for cell in misses_first(cells) if cell.ours]
MEANS = {
    "missed": "same data, size and schedule; further off than twice the tolerance",
    "near": "the same, within twice the tolerance, or within it by another protocol",
    "reproduced": "same data, protocol, size and schedule; within the tolerance",
    SMALLER: "same data, less of the rest",
    "different data": "other images, or a part of them",
    "not run": "no number of ours speaks to it",
}
table([{"status": status, "printed numbers": counted[status], "which means": MEANS[status]}
       for status in STATUSES],
      f"*All {len(cells)} numbers of the tables, other people's methods among them. Tolerance: "
      f"{POINT:.0f} point, or two deviations over seeds where that is more.*")

# %%
compared = sum(counted[status] for status in ("missed", "near", "reproduced"))
behind = [cell for cell in ours if cell.trivial is not None and cell.mean <= cell.trivial]
same = [cell for cell in ours if cell.status != "different data"]
distinct = len({(cell.record, cell.ours) for cell in ours})
say(f"**{compared} of {len(cells)}** printed numbers have been put to the test, with the paper's "
    f"data, size and schedule: {counted['missed']} missed, {counted['near']} near, "
    f"{counted['reproduced']} reproduced. {len(ours)} have a number of ours beside them, "
    f"{len(same)} of those on the same data; {distinct} different numbers, for a table often "
    "prints again what another one has."
    + ("" if compared else " So nothing here confirms or refutes a printed number. What follows "
       "is the list of what would have to be run.")
    + f"\n\n**First, the row to beat.** Beside {len(behind)} of our {len(ours)} numbers a row "
    "without any training is as high or higher. Of those nothing can be learned about the method, "
    "at this size and schedule.")

# %% [markdown]
# The figure has the numbers on the same data. *Before you look: in how many rows do you expect the cross, which cost no training, to the right of our dots?*

# %%
def draw_rows(shown: Sequence[PrintedCell]) -> None:
    """Each row a printed number: its place, ours for each seed, and the best without training."""
    figure, axis = plt.subplots(figsize=(7.5, 0.9 + 0.28 * len(shown)))
    marks = {"printed": ("|", PALETTE["teacher"], 12), "ours, one dot a seed":
             ("o", PALETTE["student"], 5), "without training": ("x", PALETTE["trivial"], 6)}
    for k, cell in enumerate(shown):
        known = [] if cell.trivial is None else [cell.trivial]
        for values, (name, (mark, colour, size)) in zip(
            ([cell.printed], cell.ours, known), marks.items(), strict=True
        ):
            axis.plot(values, [k] * len(values), mark, color=colour, ms=size, mew=2,
                      label=None if k else name)
    axis.set_yticks(range(len(shown)), [f"{c.table}: {c.row}, {c.column}" for c in shown],
                    fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="percent", xlim=(0, 101))
    if shown:
        axis.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))


# %% mystnb={"figure": {"caption": "Printed numbers and ours on the same data. Bars: printed. Dots: ours, one a seed. Crosses: the best row of the same record that trains nothing. From the records.", "name": "fig-15-same"}, "image": {"alt": "Rows of a bar near the right, dots further left, and a grey cross, often right of the dots."}}
draw_rows(same)
plt.show()

# %% [markdown]
# ## A rule before the numbers
#
# It is easy to call a number *near* once one has seen it. So the rule comes first. Two numbers can only be compared if they are of the same images, from networks of the same size, trained as long. Then two trainings still differ. How much may they?

# %% tags=["defines"]
def tolerance(values: Sequence[float]) -> float:
    """How far a number may be from the mean of `values` (percent, one a seed) and be the same."""
    spread_of = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return max(POINT, 2 * spread_of)


# %% tags=["defines"]
def status_of(printed: float, ours: Sequence[float], kinds: Collection[str] = ()) -> str:
    """What to call a printed number beside ours."""
    if not len(ours):
        return "not run"
    if "data" in kinds:
        return "different data"
    if {"model", "schedule"} & set(kinds):
        return SMALLER
    gap, allowed = round(abs(float(np.mean(ours)) - printed), 6), tolerance(ours)
    if gap <= allowed and "protocol" not in kinds:
        return "reproduced"
    return "near" if gap <= 2 * allowed else "missed"


# %% [markdown]
# *What does the rule say of three seeds at 80, 90 and 100 beside a printed 75? And of three at 88, beside 90? Decide which result you would rather have had.*

# %%
CASES = {"80, 90, 100": ([80, 90, 100], 75), "88, 88, 88": ([88, 88, 88], 90),
         "87, 88, 89": ([87, 88, 89], 90.5)}
table([{"ours": name, "printed": printed, "tolerance": f"{tolerance(values):.1f}",
        "status": status_of(printed, values)} for name, (values, printed) in CASES.items()])

# %% [markdown]
# A wide spread is forgiven much. That is a weakness of the rule, and of every rule that asks whether two numbers *could* be the same: a detector that comes out anywhere agrees with everything. So the ledger prints the deviation beside the status. Read both.
#
# ## What was done differently
#
# The word in the status column is only as good as the list of differences behind it. `book/ledger.yml` says for each chapter what the paper, or its released code, did. The record's parameters say what we did. Wherever the two are not equal there is an entry, of one of four kinds.

# %%
KINDS = {"data": "data", "model": "model", "schedule": "schedule", "protocol": "protocol"}
seen = {}
for cell in ours:
    seen.setdefault((cell.record, cell.data), cell)
table([{"record": cell.record, "on": cell.data} | {
        title: "; ".join(d.text for d in cell.departures if d.kind == kind) or "–"
        for kind, title in KINDS.items()} for cell in seen.values()],
      "*From the records. Once for each record and data; of several printed cells, the first. "
      "`samples` is steps times images in a step.*")

# %% [markdown]
# Nobody typed a status. If you make a record with the *full* profile, its size and steps are the published ones, these entries go away, and its cells will say *missed*, *near* or *reproduced* by themselves. If you delete a record, its cells say *not run*. Try it:

# %%
def without(chapter: str) -> dict[str, int]:
    """The count if this chapter had no record."""
    left = [PrintedCell(*cell.place, cell.printed) if cell.record.startswith(chapter) else cell
            for cell in cells]
    return count_statuses(left)


table([{"without the record of": chapter} | without(chapter)
       for chapter in sorted({cell.record.split(".")[0] for cell in ours})])

# %% [markdown]
# ## The ledger
#
# Here it is, table by table; within each, misses first. *Without training* is the best row of the same record that trains nothing, measured in the same way.

# %%
RECORDS = "https://github.com/fmabs-lite/fmabs-lite/blob/main/book/records/"


def tell_table(name: str) -> None:
    """One table of a paper: cells with a number of ours, how that was made, and what is left."""
    mine = [cell for cell in ours if cell.table == name]
    rest = sum(cell.table == name for cell in cells) - len(mine)
    about = paper_table(name)
    head = f"**[{about['source']}](https://doi.org/{about['doi']})** {about['caption']}"
    if not mine:
        return say(f"{head} All {rest} numbers: not run.")
    say(head)
    made = {}
    for cell in mine:
        made.setdefault((cell.record, cell.data, cell.size, cell.schedule, cell.device), len(made))
    table([{"": "abcdef"[made[cell.record, cell.data, cell.size, cell.schedule, cell.device]],
            "row": cell.row, "column": cell.column, "printed": cell.printed,
            "ours": spread(np.array(cell.ours) / 100), "seeds": len(cell.ours),
            "without training": "–" if cell.trivial is None else f"{cell.trivial:.1f}",
            "status": cell.status} for cell in mine],
          "\n".join(f"- {'abcdef'[k]}: {data}; {size}; {schedule}; {device}; "
                    f"[{record}]({RECORDS}{record})"
                    for (record, data, size, schedule, device), k in made.items())
          + f"\n\n*Not run: {rest} more.*")


# %% [markdown]
# **FMABS**, and the systems it boosts:

# %%
NAMES = list(dict.fromkeys(cell.table for cell in cells))
for name in NAMES:
    if not name.startswith("ast-mfr"):
        tell_table(name)

# %% [markdown]
# **AST-MFR:**

# %%
for name in NAMES:
    if name.startswith("ast-mfr"):
        tell_table(name)

# %% [markdown]
# Three things to keep in mind. A table's averages over fifteen categories have no number of ours where the table has a row for our category: one category is no average. Where a table prints averages only, ours stands beside them as *different data*. And FMABS's row *DRAEM+Ours* joins two models, so ours does too.
#
# ## Do the tables agree with themselves?
#
# Some checks need no training at all. An average can be taken again. One model that stands in two tables should have one number.

# %%
again = averages_again(cells)
printed = {cell.place: cell.printed for cell in cells}
off = [place for place, mean in again.items() if abs(mean - printed[place]) > 0.0501]
say(f"{len(again)} printed averages have their rows above them. {len(again) - len(off)} follow "
    f"from them; {len(off)} do not.")
table([{"table": slip.place[0], "row": slip.place[1], "column": slip.place[2],
        "printed": slip.printed, "should be": f"{slip.instead:.1f}", "because": slip.says}
       for slip in read_slips()], "*Which of two numbers is the misprint, the tables do not say.*")

# %% [markdown]
# ## Three kinds of chance
#
# The papers say *better* often. How would one know? A number may be high because of the test images that somebody chose, because of the seed, or because one looked at many numbers. Each has its own tool.
#
# **Other test images.** The screw has few sound images for testing. Another photographer would have taken others. The *bootstrap* acts as if the images at hand were the world: it draws test sets from them, with replacement, and measures each. Here are scores drawn by code, for as many images.

# %%
rng = np.random.default_rng(seed)
labels = np.repeat([0, 1], [sound, anomalous])
scores = rng.normal(labels * shift, 1)
found = bootstrap(scores, labels, resamples=resamples)
say(f"AUROC {100 * found.value:.1f} %, and over {found.resamples:,} test sets "
    f"{100 * found.low:.1f} to {100 * found.high:.1f}: "
    f"{100 * (found.high - found.low):.1f} points wide.")

# %% [markdown]
# *Two detectors are compared on the same images. Is the interval of their difference as wide as that, wider, or narrower? Think of one hard image.*

# %%
other = scores + rng.normal(0.1 * labels, 0.3)
gap = resampled(other, labels, resamples=resamples) - resampled(scores, labels, resamples=resamples)
alone = resampled(rng.normal(labels * shift, 1), labels, resamples=resamples)
apart = alone - resampled(scores, labels, resamples=resamples)[::-1]  # other images for each
low, high = 100 * np.percentile(gap, [2.5, 97.5])
wide = 100 * np.diff(np.percentile(apart, [2.5, 97.5]))[0]
say(f"A slightly better detector that errs on the same images: {low:+.1f} to {high:+.1f} points, "
    f"{high - low:.1f} wide. Two that have nothing in common: {wide:.1f} wide.")

# %% [markdown]
# The same images were drawn for both, so a hard image that is drawn twice is hard for both. For that the scores of each image are needed. Our records keep averages only, so no interval over test images stands in the ledger; and neither does one in the papers. Frames of a video are not independent images: one second looks like the next, and a bootstrap over frames comes out far too narrow.
#
# **Other seeds.** Chapter 03 has the interval by Student's t. It assumes that the differences are spread like a bell, and with three seeds nobody can see whether they are. There is a test that assumes less. If the rows did not differ, each seed's difference could as well have had the other sign. So try all signs.

# %% tags=["defines"]
def paired_test(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of a paired difference over seeds, by an exact sign-flip test."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    if not 2 <= len(one) <= 16 or len(other) not in (1, len(one)):
        raise ValueError(
            f"one has {len(one)} seeds and other {len(other)}; give 2 to 16, and as many in both "
            "rows (or a single number in the second)."
        )
    gaps = one - other
    signs = 1 - 2 * (np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps)) & 1)
    means = np.abs(signs @ gaps)
    return float(np.mean(means >= abs(gaps.sum()) * (1 - 1e-9)))


# %% [markdown]
# *Three seeds, and the boosted network is better in each, by far. What is the smallest p-value this test can give?*

# %%
table([{"seeds": n, "smallest p-value": f"{paired_test(np.arange(1, n + 1), [0]):.3f}"}
       for n in (2, 3, 4, 5, 6, 8, 10)])

# %% [markdown]
# With three seeds there are eight choices of signs, and two of them are as extreme as "better each time". No outcome of three seeds can convince this test. Whoever finds Student's interval convincing with three seeds has been convinced by the bell.
#
# **Many questions.** Ask twenty questions whose answer is no, and one will look like yes. Holm's correction makes a list of p-values safe to read: the smallest is multiplied by their number, the next by one less, and so on.

# %% tags=["defines"]
def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction: p-values that may be read as if each were the only question asked."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised.clip(max=1)
    return adjusted


# %%
false = np.random.default_rng(seed).uniform(size=(1000, 20))
plain = (false < 0.05).any(axis=1).mean()
corrected = np.mean([(holm(row) < 0.05).any() for row in false])
say(f"A thousand lists of twenty p-values, with nothing to find: {plain:.0%} of the lists hold at "
    f"least one below 0.05; after the correction {corrected:.0%}.")

# %% [markdown]
# ## What the papers call better
#
# Now the claims, each asked of two rows of one record that were trained alike. *How many of them will survive?*

# %%
claims = judge_claims()
table([{"claim": claim.says, "printed in": paper_table(claim.table)["source"],
        "points, with Student's interval":
        f"{claim.gap.mean:+.1f} ({claim.gap.low:+.1f} to {claim.gap.high:+.1f})",
        "seeds": claim.gap.seeds, "p, exact": f"{claim.p:.2f}", "p, Holm": f"{claim.corrected:.2f}"}
       for claim in claims], "*From the records, at their sizes and schedules.*")
above, below = (sum(test(claim.gap) for claim in claims)
                for test in (lambda gap: gap.low > 0, lambda gap: gap.high < 0))
kept = sum(claim.corrected < 0.05 for claim in claims)
fewest = min((claim.gap.seeds for claim in claims), default=0)
say(f"Of {len(claims)} claims, Student's interval leaves zero out for {above + below}: {above} for "
    f"the claim, {below} against it, here. By chance alone, if nothing differed, it would be "
    f"{0.05 * len(claims):.1f} on average. After correction the exact test finds {kept} to differ. "
    f"The smallest p-value of {fewest} seeds is {2 / 2**fewest:.2f}. Where nothing is found, that "
    "is no evidence against a claim: it says that these records cannot decide it."
    if claims else "No record of these chapters is there, so no claim is judged.")

# %% [markdown]
# The papers give no seeds and no spread. So the same can be said of their own numbers.
#
# ## Check a run of your own
#
# `fmabs-lite check RUNS` does what this chapter did, for a folder of runs:
#
# ```bash
# fmabs-lite run 10_draem --profile cpu --data ~/data
# fmabs-lite check _build/runs/cpu --json found.json
# ```
#
# It puts each run beside the committed record of its chapter and profile, metric by metric, within the tolerance above. It names the parameters that differ, and prints the ledger's lines for the run. Its exit status is 1 when a metric is off by more, when a number of the papers is missed that the records do not miss, or when a record is not as its run left it: each record carries a checksum of its own content.

# %% [markdown]
# ## Exercises
#
# **1.** Write `one_sided(gaps)`: the share of all choices of signs whose mean is at least as large as the one found. `gaps` are the differences, one a seed.

# %% tags=["exercise"]
def one_sided(gaps):
    ...  # your code


check("15.1", one_sided)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def one_sided(gaps):
#     gaps = np.asarray(gaps, float)
#     signs = 1 - 2 * (np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps)) & 1)
#     return np.mean(signs @ gaps >= gaps.sum() - 1e-9)
# ```
#
# Half of the two-sided value, where no two sums are equal. It may be used only by someone who would have called a loss of any size "no gain", before seeing it.
#
# </details>
#
# **2.** Write `least_seeds(claims, level)`: the smallest number of seeds with which the exact two-sided test can support one of `claims` claims at `level`, after Holm's correction.

# %% tags=["exercise"]
def least_seeds(claims, level):
    ...  # your code


check("15.2", least_seeds)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def least_seeds(claims, level):
#     seeds = 1
#     while claims * 2 / 2**seeds > level:
#         seeds += 1
#     return seeds
# ```
#
# The smallest p-value of all is multiplied by their number.
#
# </details>
#
# **3.** Write `agree(one, other)` for two lists of percentages, one a seed: whether the mean of `other` lies within the tolerance of `one`. Is it the same question the other way round?

# %% tags=["exercise"]
def agree(one, other):
    ...  # your code


check("15.3", agree)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def agree(one, other):
#     return abs(np.mean(one) - np.mean(other)) <= max(1, 2 * np.std(one, ddof=1))
# ```
#
# It is not: the spread is that of `one`. A run with a wide spread agrees with a narrow record less easily than the record with the run.
#
# </details>

# %% [markdown]
# ## What you learned
#
# - Decide what *reproduced* means before you run anything, and let a program say it.
# - A number from other data or a smaller network neither confirms nor refutes. It says what remains to be run.
# - Beside each number belongs the best one that cost no training.
# - Three seeds cannot support a claim by a test that assumes nothing. More claims need more seeds.
#
# ## Further reading
#
# - Bouthillier et al., *Accounting for Variance in Machine Learning Benchmarks*, MLSys 2021, [doi 10.48550/arXiv.2103.03098](https://doi.org/10.48550/arXiv.2103.03098): which sources of chance weigh most.
# - Efron, *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics 1979, [doi 10.1214/aos/1176344552](https://doi.org/10.1214/aos/1176344552): where it comes from.
# - Hanley and McNeil, *The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve*, Radiology 1982, [doi 10.1148/radiology.143.1.7063747](https://doi.org/10.1148/radiology.143.1.7063747): the same interval by a formula.
# - Demšar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006, [online](https://www.jmlr.org/papers/v7/demsar06a.html): tests and corrections, Holm's among them.
