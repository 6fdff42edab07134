#!/bin/sh
# Runs benchmarks.device on a machine with a GPU and without network.
#
# On a machine with network, in the root of the repository:
#   sh benchmarks/device.sh prepare DATA FOLDER
# writes FOLDER/1 (packages, and a part of the images of CIFAR-100) and FOLDER/2 (the other images),
# each below 60 MiB. Copy the repository and FOLDER, in one transfer or in two, to the machine with
# the GPU, which needs Python 3.12 with torch 2.11, torchvision, timm and accelerate. There:
#   sh benchmarks/device.sh run FOLDER OUT [options of benchmarks.device]
# It takes 9 minutes; --seconds changes that.
# and back on the first machine, with a copy of OUT:
#   python -m benchmarks.merge_results OUT && python -m benchmarks.write_performance
set -eu
cd "$(dirname "$0")/.."
: "${PYTHON:=python3}"

sizes() {
    for part in "$1"/*/; do
        echo "$part: $(find "$part" -type f -exec cat {} + | wc -c) bytes"
    done
}

command=${1-}
case $command in
prepare)
    data=$2 folder=$3
    mkdir -p "$folder/1"
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --dest "$folder/1" -c constraints.txt \
        annotated-types pydantic pydantic-core typing-extensions typing-inspection
    PYTHONPATH=src "$PYTHON" -m benchmarks.device_images pack "$data" "$folder"
    sizes "$folder"
    ;;
run)
    folder=$2 out=$3
    shift 3
    sizes "$folder"
    work=$(mktemp -d)
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" \
        "$folder"/*/*.whl
    export PYTHONPATH="$PWD/src:$work/site" PYTHONUNBUFFERED=1
    if "$PYTHON" -m benchmarks.device_images unpack "$folder" "$work/data"; then
        set -- --data "$work/data" "$@"
    fi
    "$PYTHON" -m benchmarks.device --out "$out" "$@"
    ;;
*)
    echo "usage: sh benchmarks/device.sh prepare DATA FOLDER | run FOLDER OUT [options]" >&2
    exit 2
    ;;
esac
