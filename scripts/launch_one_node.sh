#!/usr/bin/env bash
# One machine with several GPUs: one process for each. What follows is the usual command line.
#   GPUS=4 scripts/launch_one_node.sh +task=topic checkpoint=roberta
set -euo pipefail
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
exec torchrun --standalone --nproc-per-node "$gpus" -m nlp_transfer.train "$@"
