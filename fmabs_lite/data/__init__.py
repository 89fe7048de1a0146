"""Data sets in their official layouts: the drawn ones and the real ones, by the same code."""

from fmabs_lite.data.avenue import Avenue
from fmabs_lite.data.clips import Clip, Windows
from fmabs_lite.data.cubes import Cubes
from fmabs_lite.data.dtd import DTD
from fmabs_lite.data.folder import DataError, DataFolder, open_data
from fmabs_lite.data.foreground import objects, silhouette
from fmabs_lite.data.mvtec import Images, MVTecAD
from fmabs_lite.data.ped2 import UCSDPed2
from fmabs_lite.data.photos import Photos
from fmabs_lite.data.shanghaitech import ShanghaiTech
from fmabs_lite.data.static import Static, open_category

__all__ = [
    "Avenue",
    "Clip",
    "Cubes",
    "DTD",
    "DataError",
    "DataFolder",
    "Images",
    "MVTecAD",
    "Photos",
    "ShanghaiTech",
    "Static",
    "UCSDPed2",
    "Windows",
    "objects",
    "silhouette",
    "open_category",
    "open_data",
]
