"""The systems of the book. Each module names the chapter that builds it."""

from fmabs_lite.models.ast_mfr import AstMfr, mfr_smooth
from fmabs_lite.models.autoencoder import AutoEncoder, Prediction, Reconstruction
from fmabs_lite.models.draem import Draem
from fmabs_lite.models.hf2vad import FlowMemory, Hf2vad
from fmabs_lite.models.jigsaw import Jigsaw
from fmabs_lite.models.mnad import Mnad, memory_score
from fmabs_lite.models.pkgnet import PkgNet
from fmabs_lite.models.sspcab import SSPCAB, WithSSPCAB

__all__ = [
    "SSPCAB",
    "AstMfr",
    "AutoEncoder",
    "Draem",
    "FlowMemory",
    "Hf2vad",
    "Jigsaw",
    "Mnad",
    "PkgNet",
    "Prediction",
    "Reconstruction",
    "WithSSPCAB",
    "memory_score",
    "mfr_smooth",
]
