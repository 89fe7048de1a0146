"""Put ShanghaiTech Campus, which you download in a browser, into DIR/shanghaitech and check it.

    python data_scripts/download_shanghaitech.py --to data --from ~/Downloads
    python data_scripts/download_shanghaitech.py --to data --mirror http://localhost:8000/

The same as `fmabs-lite data --fetch shanghaitech`; --help says what could not be verified.
"""

import sys

from fmabs_lite.press.cli import main

if __name__ == "__main__":
    main(["data", "--fetch", "shanghaitech", *sys.argv[1:]], prog_name="fmabs-lite")
