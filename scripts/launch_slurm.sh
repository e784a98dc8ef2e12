#!/usr/bin/env bash
#SBATCH --job-name=nlp_transfer
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
# sbatch scripts/launch_slurm.sh +task=topic checkpoint=roberta
# A minute before the end every process gets SIGTERM, saves and leaves; the job goes back to the
# queue, and the same command goes on. (torchrun hands SIGTERM on to its processes, SIGUSR1 not.)
set -euo pipefail
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
code=0
srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  --rdzv-backend c10d --rdzv-endpoint "$FIRST:29500" --rdzv-id "$SLURM_JOB_ID" \
  -m nlp_transfer.train "$@" || code=$?
# Only a job whose time is over: one that fails for another reason would fail forever.
if [ "$code" -ne 0 ] && [ "$(date +%s)" -ge $((SLURM_JOB_END_TIME - 120)) ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
