"""Checks of the exercises of chapter 02: the metrics."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("02.1")
def _auroc_from_ranks(auroc_from_ranks):
    import numpy as np

    from fmabs_lite.metrics import auroc

    labels = np.array([True, False, True, False])
    got = auroc_from_ranks(np.array([4.0, 3.0, 2.0, 1.0]), labels)
    assert got is not None, "Return the number."
    assert not np.isclose(got, 0.25), "0.25 for 0.75: the higher score gets the higher rank."
    assert not np.isclose(got, 3), "That is the number of pairs won; divide by that of all pairs."
    assert np.isclose(got, 0.75), f"Scores 4, 3, 2, 1 with 4 and 2 anomalous: 0.75, not {got:.3g}."
    scores = np.random.default_rng(0).integers(0, 9, 200)
    labels = scores + np.random.default_rng(1).integers(0, 9, 200) > 10
    assert np.isclose(auroc_from_ranks(scores, labels), auroc(scores, labels)), (
        "Right without ties, wrong with them: tied scores share their mean rank."
    )


@exercise("02.2")
def _floor(floor):
    import numpy as np

    from fmabs_lite.metrics import localization

    masks = np.zeros((3, 8, 10), bool)
    masks[0, 2:4, 3:6] = masks[1, 5, 5] = True
    for max_fpr in (0.3, 0.05):
        got = floor(masks, max_fpr)
        expected = localization(np.zeros(masks.shape), masks, max_fpr)
        for name, value in expected.items():
            assert name in got, f'Your dictionary has no "{name}".'
            assert np.isclose(got[name], value), (
                f'"{name}" is {got[name]:.4g}, but a constant map has {value:.4g} on masks with '
                f"{masks.mean():.2%} defect pixels and max_fpr {max_fpr}."
            )


@exercise("02.3")
def _recall_at(recall_at):
    import numpy as np

    scores = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    labels = np.array([1, 1, 0, 1, 0, 1, 0, 0, 0, 0], bool)
    got = [float(recall_at(scores, labels, rate)) for rate in (0, 0.17, 0.34, 1)]
    assert got[0] != 0, "Even at rate 0 the images above all sound ones can be raised."
    assert np.allclose(got, [0.5, 0.75, 1, 1]), (
        f"Ten images, four anomalous, rates 0, 0.17, 0.34, 1: 0.5, 0.75, 1, 1; yours are {got}."
    )
    tied = float(recall_at(np.array([2, 2, 1, 0]), np.array([1, 0, 1, 0], bool), 0.4))
    assert tied == 0, (
        "Scores 2, 2, 1, 0, the first and third anomalous, rate 0.4: to raise any is to raise "
        f"one of two sound images, which is too many, so 0; yours is {tied:.2g}."
    )
