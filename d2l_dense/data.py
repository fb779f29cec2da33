"""Find or fetch Fashion-MNIST, verify it, and say where its files are."""

import argparse
import sys

from d2l_dense.fashion_mnist import fashion_mnist_files

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="to look into first, and download to")
    try:
        for path, _ in fashion_mnist_files(parser.parse_args().folder):
            print(path)
    except OSError as error:
        sys.exit(str(error))
