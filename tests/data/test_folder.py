"""Finding data sets: names, errors, and drawing on first use."""

import hashlib
import os
import stat
import sys
import types
from pathlib import Path

import IPython
import pytest

import fmabs_lite.data.drawn
from fmabs_lite.data import DataError, DataFolder, banner, open_data
from fmabs_lite.data.folder import NAMES, cache_dir, checksum


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fake_minis(monkeypatch):
    minis = types.ModuleType("fmabs_lite.data.drawn.minis")
    minis.edition = lambda: "v9"
    minis.drawn = []

    def draw_minis(root, seed=0, progress=False):
        minis.drawn.append(root)
        (root / "mvtec").mkdir()

    minis.draw_minis = draw_minis
    monkeypatch.setitem(sys.modules, "fmabs_lite.data.drawn.minis", minis)
    monkeypatch.setattr(fmabs_lite.data.drawn, "minis", minis, raising=False)
    return minis


@pytest.mark.parametrize(("key", "name"), [(k, n) for k, names in NAMES.items() for n in names])
def test_every_accepted_name_is_found(tmp_path, key, name):
    (tmp_path / name).mkdir(parents=True)
    folder = open_data(str(tmp_path))
    assert getattr(folder, key).samefile(tmp_path / name)  # some disks ignore case
    assert folder.has(key) and not folder.drawn
    for other in set(NAMES) - {key}:
        assert not folder.has(other)


@pytest.mark.parametrize("key", NAMES)
def test_a_missing_set_is_named_with_the_folder_and_the_names_that_would_do(tmp_path, key):
    with pytest.raises(DataError) as error:
        getattr(DataFolder(tmp_path), key)
    for part in (str(tmp_path), *NAMES[key], "leave `data` empty"):
        assert part in str(error.value)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist.*leave it empty"):
        open_data(str(tmp_path / "nowhere"))


def test_a_folder_without_any_set_is_an_error(tmp_path):
    with pytest.raises(DataError, match="none of the sets.*'mvtec', .*'shanghaitech' or 'dtd'"):
        open_data(str(tmp_path))


def test_empty_means_drawn_once_and_kept(fake_minis):
    first, second = open_data(), open_data("")
    assert first.drawn and second.drawn
    assert first.root == second.root == cache_dir() / "minis-v9"
    assert len(fake_minis.drawn) == 1
    assert fake_minis.drawn[0] != first.root  # drawn under another name, then renamed
    assert [path.name for path in cache_dir().iterdir()] == ["minis-v9"]


def test_drawing_that_is_interrupted_leaves_nothing_behind(fake_minis, monkeypatch):
    def stop(root, seed=0, progress=False):
        (root / "mvtec").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fake_minis, "draw_minis", stop)
        with pytest.raises(KeyboardInterrupt):
            open_data()
        assert list(cache_dir().iterdir()) == []
    assert open_data().mvtec.is_dir()


def test_two_processes_that_draw_at_once_agree(fake_minis, monkeypatch):
    def draw_while_another_finishes(root, seed=0, progress=False):
        (root / "mvtec").mkdir()
        (cache_dir() / "minis-v9" / "mvtec").mkdir(parents=True)

    monkeypatch.setattr(fake_minis, "draw_minis", draw_while_another_finishes)
    assert open_data().mvtec.is_dir()
    assert [path.name for path in cache_dir().iterdir()] == ["minis-v9"]


def test_another_version_of_what_draws_does_not_take_what_this_one_drew(monkeypatch):
    from fmabs_lite.data.drawn import minis

    names = {minis.edition()}
    for library in (minis.cv2, minis.np):
        with monkeypatch.context() as patch:
            patch.setattr(library, "__version__", "0.1")
            names.add(minis.edition())
    assert len(names) == 3


def test_a_cache_that_two_users_share_has_the_permissions_of_the_umask(fake_minis, monkeypatch):
    before = os.umask(0o002)
    try:
        root = open_data().root
    finally:
        os.umask(before)
    assert stat.S_IMODE(root.stat().st_mode) == 0o775


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"could not keep the drawn sets.*set FMABS_CACHE.*file/mini"):
        open_data()


@pytest.fixture
def page(monkeypatch) -> dict[str, list[str]]:
    """What a notebook shows: by display, all that it has said."""
    shown: dict[str, list[str]] = {}

    def display(text, display_id, update):
        assert update == (display_id in shown)
        shown.setdefault(display_id, []).append(text.data)

    shell = types.SimpleNamespace(kernel=True, execution_count=1)
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(banner, "told", {})
    return shown


@pytest.mark.parametrize("drawn", [True, False])
def test_a_notebook_shows_which_data_it_uses(tmp_path, fake_minis, page, drawn):
    (tmp_path / "avenue").mkdir()
    open_data("" if drawn else str(tmp_path))
    ((text,),) = page.values()
    name = f"Real data** from the folder `{tmp_path.name}`: CUHK Avenue, Lu et al. 2013, for resear"
    assert ("Synthetic data.**" if drawn else name) in text
    assert drawn or ("MVTec" not in text and "DTD" not in text)  # which are not there
    assert str(tmp_path.parent) not in text  # a built page may be published


@pytest.mark.parametrize(("categories", "credit"), [
    (["screw"], "MVTec AD, MVTec Software GmbH, CC BY-NC-SA 4.0"),
    (["bracket"], "your own pictures"),
    (["bracket", "screw"], "MVTec AD, MVTec Software GmbH, CC BY-NC-SA 4.0; your own pictures"),
])  # fmt: skip
def test_a_folder_in_the_layout_of_mvtec_is_credited_by_its_categories(
    tmp_path, page, categories, credit
):
    for name in categories:
        (tmp_path / "mvtec" / name / "train").mkdir(parents=True)
    open_data(str(tmp_path))
    ((text,),) = page.values()
    assert text.endswith(f": {credit}.")


def test_a_cell_that_opens_real_and_synthetic_data_has_one_banner(tmp_path, fake_minis, page):
    (tmp_path / "mvtec/screw/train").mkdir(parents=True)
    for data in (str(tmp_path), "", ""):
        open_data(data)
    ((first, both),) = page.values()
    assert both.startswith(first) and "**Synthetic data**" in both


def test_a_cell_that_is_run_again_shows_its_banner_again(fake_minis, page):
    for IPython.get_ipython().execution_count in (1, 2):
        open_data()
    assert len(page) == 2


def test_outside_a_notebook_nothing_is_shown(tmp_path, monkeypatch, capsys):
    (tmp_path / "avenue").mkdir()
    open_data(str(tmp_path))
    assert capsys.readouterr().out == ""


def test_checksum_is_of_names_sizes_and_bytes(tmp_path):
    def copy(name: str, **files: bytes) -> Path:
        for file, content in files.items():
            path = tmp_path / name / file.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    first = checksum(copy("a", b_2=b"two", a_1=b"one", _hidden=b"x"))
    assert first == hashlib.sha256(b"a/1\x003\x00oneb/2\x003\x00two").hexdigest()
    assert checksum(copy("c", a_1=b"one", b_2=b"two")) == first
    assert checksum(copy("d", a_1=b"one", b_3=b"two")) != first
    assert checksum(copy("e", a_1=b"one", b_2=b"twO")) != first
