#!/usr/bin/env bash
# Several machines: start this on each of them, with the same arguments and its own RANK (0, 1 …).
#   NODES=2 RANK=0 FIRST=10.0.0.1 scripts/launch_nodes.sh +task=topic checkpoint=roberta
# The run folder (runs/, or run_dir=) must be one that all of them see.
set -euo pipefail
exec torchrun --nnodes "$NODES" --node-rank "$RANK" --nproc-per-node "${GPUS:-$(nvidia-smi --list-gpus | wc -l)}" \
  --rdzv-backend c10d --rdzv-endpoint "$FIRST:${PORT:-29500}" --rdzv-id "${JOB:-nlp_transfer}" \
  -m nlp_transfer.train "$@"
