"""The kit for a machine with a GPU: `prepare` packs what it lacks, `run` works in slices.

    python tests/gpu/kit.py prepare --data DIR [--has FILE]
    python tests/gpu/kit.py run [--minutes 9] [--budget 25] [--out DIR]

README.md beside this file says what for. Only the standard library is imported up here: what the
machine lacks is installed by `run`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
AGAIN = 75  # exit status: time is over, the same command goes on
NEEDED = ("install", "unpack", "pace")  # steps without which the later ones cannot be
SIZE = 256  # pixels of the published images
CHAPTER, CATEGORY = "10_draem", "screw"


# --- prepare


def prepare(asked: argparse.Namespace) -> int:
    """Pack the category, textures and missing wheels into one folder; check its size."""
    folder: Path = asked.to
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "wheels").mkdir(parents=True)
    pack_data(Path(asked.data).expanduser(), folder / "data", asked.textures)
    if asked.wheels:
        has = names_in(asked.has.read_text()) if asked.has else {"torch", "torchvision"}
        missing(needed(), has, download_to(folder / "wheels", asked.python, asked.platform))
    (folder / "commit.txt").write_text(git("describe", "--always", "--abbrev=12", "--dirty=+"))
    sizes = {part.name: size_of([part]) for part in sorted(folder.iterdir())}
    listed = git("ls-files", "-z").split("\0")
    sizes["the checkout's own files"] = size_of(ROOT / name for name in listed if name)
    for name, size in sizes.items():
        print(f"{size / MIB:7.1f} MiB  {name}")
    total = sum(sizes.values()) / MIB
    print(f"{total:7.1f} MiB  in all, of {asked.limit:g}")
    if total > asked.limit:
        print("Too much: name what the machine has with --has, or take fewer --textures.")
    return int(total > asked.limit)


def pack_data(data: Path, target: Path, textures: int) -> None:
    """Copy a category and some textures, each picture as the package reads it at SIZE.

    Files of that size are copied as they are, others written as PNG after the package's own
    resizing. Either way the package reads the same pixels as from the original. `textures` is
    how many to take, evenly over all of DTD's files; 0 for all.
    """
    import numpy as np

    from fmabs_lite.data.files import read_image, resize
    from fmabs_lite.data.folder import DataFolder, files_below
    from fmabs_lite.data.masks import read_marks, resize_mask

    source = DataFolder(data)
    category = source.mvtec / CATEGORY
    for path in files_below(category):
        inside = path.relative_to(category)
        grey = inside.parts[0] == "ground_truth"
        if inside.parts[0] in ("train", "test", "ground_truth"):
            copy_picture(path, target / "mvtec" / CATEGORY / inside, grey,
                         (lambda path, grey: read_marks(path)) if grey else read_image,
                         (lambda x: resize_mask(x, SIZE).astype(np.uint8) * 255) if grey
                         else lambda x: resize(x, (SIZE, SIZE)))  # fmt: skip
    if source.has("dtd"):
        files = files_below(source.dtd / "images")
        every = max(1, len(files) // textures) if textures else 1
        for path in files[::every]:
            copy_picture(path, target / "dtd" / path.relative_to(source.dtd), False, read_image,
                         lambda x: resize(x, (SIZE, SIZE)))  # fmt: skip


def copy_picture(path: Path, target: Path, grey: bool, read: Callable, shrink: Callable) -> None:
    import cv2

    target.parent.mkdir(parents=True, exist_ok=True)
    image = read(path, grey)
    if image.shape[:2] == (SIZE, SIZE):
        shutil.copyfile(path, target)
        return
    small = shrink(image)
    same = not grey and (small == small[..., :1]).all()  # a grey picture stays one channel
    written = small[..., 0] if same else small if grey else small[..., ::-1]
    cv2.imwrite(str(target.with_suffix(".png")), written)


def needed() -> list[str]:
    """The requirements of the package and of a sweep, as its metadata give them."""
    from importlib.metadata import requires

    sweep = r"^(papermill|ipykernel|distributed)\b.*extra"
    return [one.split(";")[0].strip() for one in requires("fmabs-lite") or []
            if "extra" not in one or re.match(sweep, one)]  # fmt: skip


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(listed: str) -> set[str]:
    """The names in what `pip list --format=freeze` prints, or in any list of requirements."""
    found = (re.match(r"[\w.-]+", line.strip()) for line in listed.splitlines())
    return {plain(one[0]) for one in found if one}


def missing(wanted: Iterable[str], has: set[str], fetch: Callable[[str], list[str]]) -> list[str]:
    """Fetch what is wanted and not there, and what that needs in turn; return the names.

    Args:
        wanted: requirements such as "papermill>=2.6", without markers.
        has: names of what is there, which is taken to be new enough.
        fetch: gets one requirement and returns those of its own that hold where it will run.
    """
    queue, found = list(wanted), []
    while queue:
        requirement = queue.pop(0)
        name = plain(re.match(r"[\w.-]+", requirement)[0])
        if name not in has and name not in found:
            found.append(name)
            queue += fetch(requirement)
    return found


def download_to(folder: Path, python: str, platforms: list[str]) -> Callable[[str], list[str]]:
    """How to fetch one wheel for a version of Python and some platforms, without its needs."""
    from packaging.requirements import Requirement

    where = [f"--python-version={python}", *(f"--platform={name}" for name in platforms)]
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}

    def fetch(requirement: str) -> list[str]:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        with tempfile.TemporaryDirectory() as new:
            subprocess.run([*pip, *where, "-d", new, requirement], check=True)
            wheel = next(Path(new).iterdir())
            with zipfile.ZipFile(wheel) as file:
                name = next(n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
                metadata = Parser().parsestr(file.read(name).decode())
            shutil.move(wheel, folder / wheel.name)
        needs = map(Requirement, metadata.get_all("Requires-Dist") or [])
        return [f"{one.name}{one.specifier}" for one in needs
                if one.marker is None or one.marker.evaluate(environment)]  # fmt: skip

    return fetch


def git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def size_of(paths: Iterable[Path]) -> int:
    files = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
    return sum(f.stat().st_size for f in files if f.is_file())


# --- run


@dataclass
class Trial:
    """What is trained: Table 4's rows, and the values that are not the profile's own."""

    profile: str = "full"
    rows: tuple[str, ...] = ("DRAEM", "DRAEM + SSPCAB", "+ CA", "+ SCA")
    fixed: dict = field(default_factory=dict)
    most: int = 28000  # steps, 700 epochs of the screw's 320 images
    rest: float = 90.0  # seconds of a row beside its training: loading, measuring
    pace: float = 8.0  # seconds of steps by which the pace is measured
    systems: tuple[str, ...] = ()  # to compare with the CPU; all of them


# The rehearsal: the same path at once, on whatever there is.
TINY = Trial(
    "quick", ("+ CA",),
    dict(size=32, width=4, disc_width=4, batch_size=2, window=3), 4, 0.0, 0.1,
    ("03_reconstruction + SCA",),
)  # fmt: skip

PACE = """
import json, sys
from pathlib import Path
from fmabs_lite.lesson.records import device
from fmabs_lite.press.bench import rate_of
from fmabs_lite.press.plan import Settings, plan
chapter, profile, fixed, seconds = sys.argv[1:]
settings = Settings(profile, values=json.loads(fixed))
p = plan(Path.cwd(), [chapter], settings)[0].provenance["parameters"]
print(json.dumps(rate_of(chapter, p, float(seconds))._asdict()
                 | {"batch": p["batch_size"], "device": device()}))
"""


class Kit:
    """One slice of a run. What is done stands in `state.json`, and is not done again."""

    def __init__(self, asked: argparse.Namespace):
        self.asked, self.trial = asked, TINY if asked.rehearse else Trial()
        self.end = time.monotonic() + 60 * asked.minutes
        self.repo, self.packed = asked.repo.resolve(), asked.packed.resolve()
        self.home = self.repo / "_build" / "gpu"  # stays where it is between two slices
        self.home.mkdir(parents=True, exist_ok=True)
        self.out = Path(asked.out or os.environ.get("OUT") or self.home / "out")
        self.out.mkdir(parents=True, exist_ok=True)
        self.file = self.home / "state.json"
        self.state = json.loads(self.file.read_text()) if self.file.exists() else {}
        paths = [self.home / "site", self.repo, os.environ.get("PYTHONPATH", "")]
        self.env = os.environ | {"PYTHONPATH": os.pathsep.join(str(p) for p in paths if str(p))}

    def left(self) -> float:
        """Seconds of this slice."""
        return self.end - time.monotonic()

    def done(self, **facts) -> None:
        self.state |= facts
        self.file.write_text(json.dumps(self.state, indent=1))

    def call(self, *words: str, to: Path | None = None) -> int:
        """Run a command of Python's; AGAIN if the slice ends before it. With `to`, keep output."""
        command = [sys.executable, "-u", *words]
        output = to.open("w") if to else None
        process = subprocess.Popen(command, cwd=self.repo, env=self.env, stdout=output,
                                   start_new_session=True)  # fmt: skip
        try:
            return process.wait(max(1.0, self.left()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # with all that it has started
            process.wait()
            return AGAIN
        finally:
            if output:
                output.close()
                print(to.read_text(), flush=True)

    def run(self) -> int:
        """Do what is left, until the slice is over; return the exit status."""
        for step in (self.install, self.unpack, self.agreement, self.bench, self.pace, self.sweep):
            name = step.__name__
            if name in self.state and name != "sweep":
                continue
            print(f"\n== {name}, {self.left():.0f} s left", flush=True)
            status = step() if self.left() > 0 else AGAIN
            if status == AGAIN or (status and name in NEEDED):
                break
            self.done(**{name: self.state.get(name, status) if name == "pace" else status})
        self.bring_back()
        if status == AGAIN:
            print("Time is over; the same command goes on.")
            return AGAIN
        failed = [name for name in ("agreement", "bench", "sweep") if self.state.get(name)]
        if failed:
            print(f"Failed: {', '.join(failed)}; what they said stands above, or in {self.out}.")
        return int(bool(status or failed))

    def install(self) -> int:
        wheels = sorted(map(str, (self.packed / "wheels").glob("*.whl")))
        pip = ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target")
        return self.call(*pip, str(self.home / "site"), *wheels) if wheels else 0

    def unpack(self) -> int:
        """Copy the data to where their times stay as they are: a run depends on them."""
        if (self.packed / "data").exists():
            shutil.copytree(self.packed / "data", self.home / "data", dirs_exist_ok=True)
        return 0

    def agreement(self) -> int:
        only = ["--only", *self.trial.systems] if self.trial.systems else []
        script = str(Path(__file__).with_name("agreement.py"))
        return self.call(script, *only, "--to", str(self.home / "agreement.json"))

    def bench(self) -> int:
        options = ["--profile", self.trial.profile, "--seconds", str(min(2.0, self.trial.pace))]
        command = ("-m", "fmabs_lite.press.cli", "bench", *options)
        return self.call(*command, to=self.home / "bench.txt")

    def pace(self) -> int:
        """Measure what a step of each row takes; fix the steps, equal for all rows."""
        trial, target = self.trial, self.home / "pace.json"
        words = (CHAPTER, trial.profile, json.dumps(trial.fixed), str(trial.pace))
        status = self.call("-c", PACE, *words, to=target)
        if status:
            return status
        found = json.loads(target.read_text())
        steps = self.asked.steps or steps_of(found, trial, 60 * self.asked.budget)
        sweep = {
            "chapter": CHAPTER, "profile": trial.profile, "fixed": trial.fixed | {"steps": steps},
            "grid": {"rows": [[row] for row in trial.rows], "seeds": [[0]]},
        }  # fmt: skip
        (self.home / "screw.yml").write_text(json.dumps(sweep, indent=1))
        epochs = f"{steps / 40:g} epochs of the screw's 320 images in eights"
        print(f"{steps} steps of each row, {epochs}; --steps {steps} takes as many", flush=True)
        self.done(pace=found, steps=steps)
        return 0

    def sweep(self) -> int:
        minutes = max(0.0, self.left() - 20 * (self.left() > 60)) / 60  # to stop, and to bring back
        data = ["--data", str(self.home / "data")] if (self.home / "data").exists() else []
        options = ["--workers", "1", "--keep-records", "--minutes", f"{minutes:.3f}", *data]
        file = str(self.home / "screw.yml")
        return self.call("-m", "fmabs_lite.press.cli", "sweep", file, *options)

    def bring_back(self) -> None:
        """Copy what is small and worth keeping to the folder that travels."""
        record = self.repo / "book" / "records" / f"{CHAPTER}.{self.trial.profile}.json"
        commit = self.packed / "commit.txt"
        self.done(trial=asdict(self.trial), commit=commit.read_text() if commit.exists() else "")
        names = ("agreement.json", "bench.txt", "screw.yml", "state.json")
        for path in [*(self.home / name for name in names), record]:
            if path.exists() and path.stat().st_size < 16 * MIB:
                shutil.copyfile(path, self.out / path.name)
        print(f"\nIn {self.out}: {', '.join(sorted(p.name for p in self.out.iterdir()))}")


def steps_of(found: dict, trial: Trial, budget: float) -> int:
    """Steps for each row that fit into a budget of seconds, in whole epochs of 40 steps if any."""
    step = sum(found["batch"] / found["boosted" if row.startswith("+") else "plain"]
               for row in trial.rows)  # fmt: skip
    steps = min(trial.most, int((budget - trial.rest * len(trial.rows)) / step))
    return max(1, steps - steps % 40 if steps >= 40 else steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packed = ROOT / "local" / "gpu"  # git ignores it
    one = verbs.add_parser("prepare", help="pack data and wheels, on a machine with a network")
    one.add_argument("--data", required=True, help="a folder with mvtec/screw, and dtd if you like")
    one.add_argument("--to", type=Path, default=packed)
    one.add_argument("--has", type=Path, help="what `pip list --format=freeze` says over there")
    one.add_argument("--python", default="3.12", help="its version over there")
    one.add_argument("--platform", nargs="+", default=[
        "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64",
        "manylinux1_x86_64",
    ])  # fmt: skip
    one.add_argument("--textures", type=int, default=0, help="so many of DTD's; 0: all")
    one.add_argument("--limit", type=float, default=64.0, help="MiB in all")
    one.add_argument("--no-wheels", dest="wheels", action="store_false")
    two = verbs.add_parser("run", help="one slice, on the machine with the GPU")
    two.add_argument("--minutes", type=float, default=9.0, help="of this slice")
    two.add_argument("--budget", type=float, default=25.0, help="minutes of training in all slices")
    two.add_argument("--steps", type=int, default=0, help="in place of what the budget allows")
    two.add_argument("--out", help="a folder for the results; else $OUT, else _build/gpu/out")
    two.add_argument("--packed", type=Path, default=packed)
    two.add_argument("--repo", type=Path, default=ROOT, help="the checkout to run in")
    two.add_argument("--rehearse", action="store_true", help="tiny values, on a CPU too")
    asked = parser.parse_args()
    return prepare(asked) if asked.verb == "prepare" else Kit(asked).run()


if __name__ == "__main__":
    sys.exit(main())
