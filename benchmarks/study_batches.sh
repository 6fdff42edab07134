#!/bin/sh
# Question 5 of the study: sh benchmarks/study_batches.sh FOLDER
set -eu
: "${CCLOSS:=ccloss}"
out=$1
for size in 8 16 32 64 128; do
    $CCLOSS compare --data digits --rounds 10 --seed 200 --batch-size $size --losses ce+cam,cc --out $out
done
