"""Download the Describable Textures Dataset, from which DRAEM makes anomalies, into DIR/dtd.

    python data_scripts/download_dtd.py --to data
    python data_scripts/download_dtd.py --to data --from ~/Downloads/dtd-r1.0.1.tar.gz

The same as `fmabs-lite data --fetch dtd`; --help says what could not be verified.
"""

import sys

from fmabs_lite.press.cli import main

if __name__ == "__main__":
    main(["data", "--fetch", "dtd", *sys.argv[1:]], prog_name="fmabs-lite")
