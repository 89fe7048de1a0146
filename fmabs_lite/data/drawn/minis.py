"""MiniMVTec, MiniAvenue, MiniPed2, MiniShanghai and MiniDTD: drawn by code, free of any licence.

They lie on disk as the official ones do, so the loaders that read these read those. What is drawn
is decided in `goods` (pictures of things), `footage` (clips of a street) and `textures`; `drawing`,
`figures` and `street` hold the pens; this module lays out the files. Chapter 01 shows the first
three, chapter 13 uses the fourth and chapter 10 the textures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from fmabs_lite.data.drawn.drawing import generator
from fmabs_lite.data.drawn.footage import RATES, SCRIPTS, TRAINING, shoot
from fmabs_lite.data.drawn.goods import DEFECTS, DRAW, picture
from fmabs_lite.data.drawn.textures import DRAW as TEXTURES
from fmabs_lite.data.drawn.textures import texture

VERSION = 3  # raise it when a change here or in the modules above alters a single pixel

# names of MiniShanghai's test clips by scene; all of 04_0011 is abnormal, as in the real set
CAMPUS_TESTS = {"01": ("0014", "0015"), "04": ("0003", "0011"), "07": ("0005", "0007")}

# (data set, part, number), ("mvtec", category, folder) or ("dtd", "images", class)
Job = tuple[str, str, str | int]


@dataclass(frozen=True)
class Amounts:
    """How much to draw. Tests draw less."""

    train: int = 60  # sound training pictures of a category
    good: int = 16  # sound test pictures of a category
    each: int = 7  # test pictures of each defect
    textures: int = 20  # pictures of each class of textures
    frames: int | None = None  # of each clip; None: as long as the script says


def edition() -> str:
    """What the pixels depend on, as a name: this code, and the libraries that draw and pack.

    Other versions of these draw some lines and letters differently, and numbers with them.
    """
    return f"v{VERSION}-numpy{np.__version__}-opencv{cv2.__version__}"


def draw_minis(root: Path, seed: int = 0, progress: bool = False) -> None:
    """Draw the five data sets into the folder `root`, which is made if need be.

    Writes `mvtec/`, `avenue/`, `ucsd_ped2/`, `shanghaitech/`, `dtd/` and `labels/`, about 80 MB, on
    all cores but at most four. The same seed gives the same decoded arrays. Raises OSError when a
    file cannot be written.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    draw(Path(root), seed, Amounts(), progress, workers=min(4, cores or 1))


def draw(root: Path, seed: int, amounts: Amounts, progress: bool = False, workers: int = 1) -> None:
    """`draw_minis` with its amounts and the number of processes open."""
    from tqdm.auto import tqdm

    root.mkdir(parents=True, exist_ok=True)
    jobs = plan()
    with tqdm(total=len(jobs), desc="drawing the data", disable=not progress) as bar:
        if workers == 1:
            for job in jobs:
                write(root, seed, amounts, job)
                bar.update()
        else:
            shares = [jobs[first::workers] for first in range(workers)]
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda jobs: delegate(root, seed, amounts, jobs, bar.update), shares))
    write_avenue_intervals(root, seed)
    write_ped2_intervals(root)
    write_campus_labels(root)


def plan() -> list[Job]:
    """Everything to draw, the longest first."""
    clips = [(name, "training", k) for name in SCRIPTS for k in range(TRAINING[name])]
    clips += [(name, "testing", k) for name in SCRIPTS for k in range(len(SCRIPTS[name]))]
    folders = ["train/good", "test/good", *(f"test/{defect}" for defect in DEFECTS)]
    pictures = [("mvtec", category, folder) for folder in folders for category in DRAW]
    return clips + pictures + [("dtd", "images", kind) for kind in TEXTURES]


def delegate(
    root: Path, seed: int, amounts: Amounts, jobs: list[Job], done: Callable[[], object]
) -> None:
    """Let another Python process write `jobs`, and call `done` after each.

    A plain child process works alike in notebooks, scripts without a main guard, and threads,
    where `multiprocessing` does not.
    """
    task = json.dumps([str(root.resolve()), seed, asdict(amounts), jobs])
    here = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", "from fmabs_lite.data.drawn import minis; minis._work()", task]
    # Complaints go to a file: a pipe that nobody empties would stop a child that has many.
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as child:
            try:
                for _ in child.stdout:
                    done()
            except BaseException:
                child.kill()
                raise
        complaints.seek(0)
        complaint = complaints.read()
    if child.returncode:
        reason = complaint.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        raise OSError(
            f"could not draw the embedded data sets into {root}: {reason[0]}. "
            "Is there room on the disk (80 MB), and may you write there?"
        )


def _work() -> None:
    """A child process: write the jobs named on the command line, one line printed for each."""
    root, seed, amounts, jobs = json.loads(sys.argv[1])
    cv2.setNumThreads(1)
    for job in jobs:
        write(Path(root), seed, Amounts(**amounts), tuple(job))
        print(*job, flush=True)


def write(root: Path, seed: int, amounts: Amounts, job: Job) -> None:
    """Draw one job's files."""
    name, part, which = job
    if name == "mvtec":
        write_pictures(root / "mvtec" / part, str(which), seed, amounts)
    elif name == "avenue":
        write_avenue_clip(root / "avenue", part, int(which), seed, amounts.frames)
    elif name == "ucsd_ped2":
        write_ped2_clip(root / "ucsd_ped2", part, int(which), seed, amounts.frames)
    elif name == "dtd":
        write_textures(root / "dtd" / part, str(which), seed, amounts.textures)
    else:
        write_campus_clip(root, name, part, int(which), seed, amounts.frames)


# ---- MVTec AD's layout -------------------------------------------------------------------------


def write_pictures(folder: Path, part: str, seed: int, amounts: Amounts) -> None:
    """All pictures of one folder, such as "test/bent", of a category; and their masks."""
    defect = part.split("/")[1]
    count = {"train/good": amounts.train, "test/good": amounts.good}.get(part, amounts.each)
    for number in range(count):
        image, mask = picture(folder.name, part, number, seed)
        save_image(folder / part / f"{number:03d}.png", image)
        if defect != "good":
            path = folder / "ground_truth" / defect / f"{number:03d}_mask.png"
            save_image(path, mask.astype(np.uint8) * 255)


def save_image(path: Path, image: np.ndarray) -> None:
    """RGB or grey uint8, packed as the suffix says.

    Writes the bytes itself, because cv2.imwrite hides a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image)
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    path.write_bytes(data.tobytes())


# ---- CUHK Avenue's layout ----------------------------------------------------------------------


def write_avenue_clip(root: Path, part: str, number: int, seed: int, frames: int | None) -> None:
    """`training_videos/01.avi` and so on; with test videos, their `N_label.mat`."""
    pictures, masks = zip(*shoot("avenue", part, number, seed, frames), strict=True)
    save_video(root / f"{part}_videos" / f"{number + 1:02d}.avi", pictures, RATES["avenue"])
    if part == "testing":
        cells = np.empty((1, len(masks)), object)
        cells[0] = [mask.astype(np.uint8) for mask in masks]
        folder = root / "ground_truth_demo" / "testing_label_mask"
        folder.mkdir(parents=True, exist_ok=True)
        save_mat(folder / f"{number + 1}_label.mat", "volLabel", cells)


def save_mat(path: Path, name: str, cells: np.ndarray) -> None:
    """Write a MATLAB file of one variable, undated: equal sets have equal bytes."""
    from scipy.io import savemat

    savemat(path, {name: cells}, do_compression=True)
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))  # the text that begins such a file


def save_video(path: Path, frames: Iterable[np.ndarray], rate: int) -> None:
    """RGB frames as AVI: lossless FFV1, or MJPG where OpenCV was built without it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = list(frames)
    size = frames[0].shape[1::-1]
    for codec in ("FFV1", "MJPG"):
        video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
        if video.isOpened():
            break
    for frame in frames:
        video.write(np.ascontiguousarray(frame[..., ::-1]))
    video.release()
    if int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)) != len(frames):
        raise OSError(f"{path} was not written whole: is the disk full?")


def write_avenue_intervals(root: Path, seed: int) -> None:
    """The second label set: whole events, with starts and ends as another hand would set them.

    `labels/frame_labels_avenue.npy`, int8 (1, frames of all test videos), 1 = abnormal.
    """
    from scipy.io import loadmat

    masks = root / "avenue" / "ground_truth_demo" / "testing_label_mask"
    rng, labels = generator(seed, "intervals"), []
    for number in range(len(SCRIPTS["avenue"])):
        cells = loadmat(masks / f"{number + 1}_label.mat")["volLabel"][0]
        marked = np.zeros(len(cells), np.int8)
        for start, stop in runs(np.array([cell.any() for cell in cells]), bridge=12):
            early, late = rng.integers(-2, 9), rng.integers(-4, 9)
            marked[max(0, start - early) : stop + late] = 1
        labels.append(marked)
    (root / "labels").mkdir(exist_ok=True)
    np.save(root / "labels" / "frame_labels_avenue.npy", np.concatenate(labels)[None])


def runs(flags: np.ndarray, bridge: int = 0) -> list[tuple[int, int]]:
    """(start, stop) of every run of True, stop excluded; gaps of up to `bridge` are closed."""
    edges = np.flatnonzero(np.diff(flags.astype(int), prepend=0, append=0)).reshape(-1, 2)
    found: list[tuple[int, int]] = []
    for start, stop in edges.tolist():
        if found and start - found[-1][1] <= bridge:
            start = found.pop()[0]
        found.append((start, stop))
    return found


# ---- UCSD Ped2 in MNAD's layout ----------------------------------------------------------------


def write_ped2_clip(root: Path, part: str, number: int, seed: int, frames: int | None) -> None:
    """Grey `frames/NN/FFF.png`, NN from 01 and FFF from 000; with test clips, `masks/` likewise."""
    clip = f"{number + 1:02d}"
    for index, (image, mask) in enumerate(shoot("ucsd_ped2", part, number, seed, frames)):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        save_image(root / part / "frames" / clip / f"{index:03d}.png", grey)
        if part == "testing":
            save_image(
                root / part / "masks" / clip / f"{index:03d}.png", mask.astype(np.uint8) * 255
            )


def write_ped2_intervals(root: Path) -> None:
    """`ped2.mat`: key `gt`, a 1 x clips cell of 2 x k first and last abnormal frames, 1-based."""
    clips = sorted((root / "ucsd_ped2" / "testing" / "masks").iterdir())
    cells = np.empty((1, len(clips)), object)
    for number, clip in enumerate(clips):
        masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(clip.iterdir())]
        found = runs(np.array([mask.any() for mask in masks]))
        ends = [(start + 1, stop) for start, stop in found]
        cells[0, number] = np.array(ends, np.uint8).reshape(-1, 2).T
    save_mat(root / "ucsd_ped2" / "ped2.mat", "gt", cells)


# ---- ShanghaiTech Campus's layout -------------------------------------------------------------


def write_campus_clip(
    root: Path, name: str, part: str, number: int, seed: int, frames: int | None
) -> None:
    """`training/videos/01_001.avi`, or the frames and both kinds of labels of a test clip.

    `name` is that of a scene, such as "shanghaitech/01".
    """
    folder, scene = root / Path(name).parent / part, Path(name).name
    pictures, masks = zip(*shoot(name, part, number, seed, frames), strict=True)
    if part == "training":
        save_video(folder / "videos" / f"{scene}_{number + 1:03d}.avi", pictures, RATES[name])
        return
    clip = f"{scene}_{CAMPUS_TESTS[scene][number]}"
    for index, frame in enumerate(pictures):
        save_image(folder / "frames" / clip / f"{index:03d}.jpg", frame)
    marked = np.stack(masks).astype(np.uint8)
    for kind, labels in (("frame", marked.any((1, 2)).astype(np.uint8)), ("pixel", marked)):
        (folder / f"test_{kind}_mask").mkdir(exist_ok=True)
        np.save(folder / f"test_{kind}_mask" / f"{clip}.npy", labels)


def write_campus_labels(root: Path) -> None:
    """`labels/frame_labels_shanghai.npy`: the labels of all test clips in a row, as in public code.

    uint8 (frames of all test clips,), 1 = abnormal.
    """
    files = sorted((root / "shanghaitech" / "testing" / "test_frame_mask").iterdir())
    labels = np.concatenate([np.load(path) for path in files])
    np.save(root / "labels" / "frame_labels_shanghai.npy", labels)


# ---- DTD's layout ------------------------------------------------------------------------------


def write_textures(folder: Path, kind: str, seed: int, count: int) -> None:
    """`<class>/<class>_0001.jpg` and so on, counted from 1."""
    for number in range(1, count + 1):
        save_image(folder / kind / f"{kind}_{number:04d}.jpg", texture(kind, number, seed))
