"""The long runs: `python -m experiments` lists them."""

import os

# Deep networks that take turns need more compiled kernels than oneDNN keeps by default.
# What one network needs when it is trained alone, it keeps.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
