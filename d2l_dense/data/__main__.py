"""`python -m d2l_dense.data`: find or fetch the data, verify it, say where it is."""

import argparse
import sys

from d2l_dense.data import files

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m d2l_dense.data", description=__doc__
    )
    parser.add_argument("folder", nargs="?", help="to look into first, and download to")
    options = parser.parse_args()
    try:
        for path in files.fashion_mnist(options.folder).values():
            files.read(path)
            print(path)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
