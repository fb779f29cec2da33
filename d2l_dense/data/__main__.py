"""`python -m d2l_dense.data`: find or fetch the data, verify it, say where it is."""

import sys

from d2l_dense.data import files

if __name__ == "__main__":
    try:
        for path in files.fashion_mnist().values():
            files.read(path)
            print(path)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
