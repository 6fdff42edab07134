#!/bin/sh
# Question 3 of the study: sh benchmarks/study_weights.sh FOLDER
set -eu
: "${CCLOSS:=ccloss}"
out=$1
runs="--data digits --rounds 10 --seed 200 --out $out"
$CCLOSS compare $runs --losses ce+cam
for weight in 0.1 0.5 1 2 5 10; do
    $CCLOSS compare $runs --losses cc --loss.weight $weight
    $CCLOSS compare $runs --losses cc --loss.weight $weight --loss.reduction mean
done
