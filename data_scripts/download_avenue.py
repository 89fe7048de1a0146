"""Download CUHK Avenue, the videos and the official pixel labels, into DIR/avenue.

    python data_scripts/download_avenue.py --to data
    python data_scripts/download_avenue.py --to data --from "~/Downloads/Avenue Dataset"

The same as `fmabs-lite data --fetch avenue`; --help says what could not be verified.
"""

import sys

from fmabs_lite.press.cli import main

if __name__ == "__main__":
    main(["data", "--fetch", "avenue", *sys.argv[1:]], prog_name="fmabs-lite")
