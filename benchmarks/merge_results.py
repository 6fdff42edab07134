"""Writes the finished runs below a folder to one JSON Lines file.

python -m benchmarks.merge_results runs/mnist benchmarks/results/mnist.jsonl
"""

import sys
from pathlib import Path

from ccloss.bench.results import write_campaign

if __name__ == "__main__":
    folder, file = map(Path, sys.argv[1:])
    print(f"{file}: {write_campaign(folder, file)} runs")
