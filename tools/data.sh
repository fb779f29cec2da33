#!/bin/sh
# Find or fetch Fashion-MNIST, with the Python that is named. Where its mirror is out
# of reach, Debian's package has the files; to unpack it needs no root.
set -u
package=dataset-fashion-mnist
raw=${XDG_CACHE_HOME:-$HOME/.cache}/d2l_dense/FashionMNIST/raw

unpack() {
    cd "$folder" || return
    apt-get download "$package" || { apt-get update && apt-get download "$package"; } &&
        dpkg-deb -x "$package"_*.deb . && mkdir -p "$raw" &&
        cp usr/share/datasets/fashion-mnist/*-ubyte.gz "$raw"
}

said=$("$1" -m d2l_dense.data 2>&1) || {
    folder=$(mktemp -d) || exit 1
    trap 'rm -rf "$folder"' EXIT
    chmod 755 "$folder" # apt gives up its rights before it downloads
    (unpack) >"$folder/log" 2>&1 && said=$("$1" -m d2l_dense.data 2>&1) || {
        echo "$said" >&2
        echo "Debian's $package was no help: $(tail -n 1 "$folder/log")" >&2
        exit 1
    }
}
echo "$said"
