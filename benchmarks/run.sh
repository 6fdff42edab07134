#!/bin/sh
# Measures everything in docs/performance.md again and rebuilds the page: make bench
set -eu
cd "$(dirname "$0")/.."
: "${PYTHON:=python}"
$PYTHON -m benchmarks.start_up
$PYTHON -m benchmarks.step
$PYTHON -m benchmarks.throughput
$PYTHON -m benchmarks.data_loading
$PYTHON -m benchmarks.loss
$PYTHON -m benchmarks.write_performance
