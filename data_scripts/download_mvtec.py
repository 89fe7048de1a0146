"""Download MVTec AD, one category or all of them, into DIR/mvtec.

    python data_scripts/download_mvtec.py --to data --category screw --category cable
    python data_scripts/download_mvtec.py --to data --category all
    python data_scripts/download_mvtec.py --to data --from ~/Downloads/mvtec_anomaly_detection

The same as `fmabs-lite data --fetch mvtec`; --help says what could not be verified.
"""

import sys

from fmabs_lite.press.cli import main

if __name__ == "__main__":
    main(["data", "--fetch", "mvtec", *sys.argv[1:]], prog_name="fmabs-lite")
