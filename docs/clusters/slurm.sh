#!/bin/bash
# A search on a Ray cluster inside one SLURM allocation:  sbatch docs/clusters/slurm.sh recipe.yaml S
#
# Recipe, weights, data, S and the environment with edgekd[cluster] lie on a file system that all nodes share.
#SBATCH --job-name=edgekd-search
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
# For trials on GPUs, one each, and `train.device: 0` in the recipe:
##SBATCH --gpus-per-node=4
set -euo pipefail

recipe=${1:?usage: sbatch slurm.sh RECIPE OUT}
out=${2:?usage: sbatch slurm.sh RECIPE OUT}
threads=4 # of a trial: a node runs cpus-per-task / threads of them
port=6379

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
gpus=${SLURM_GPUS_ON_NODE:-0}

begin() { # a node, and what `ray start` is told
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" \
        ray start --block --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$gpus" "${@:2}" &
}

begin "$head" --head --node-ip-address "$address" --port "$port"
sleep 20 # until the head answers; nodes that are early try again
for node in "${nodes[@]:1}"; do
    begin "$node" --address "$address:$port"
done

# The same job, queued again, goes on where this one was stopped.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    edgekd search "$recipe" --out "$out" --set "search.ray=$address:$port" --set "threads=$threads"
