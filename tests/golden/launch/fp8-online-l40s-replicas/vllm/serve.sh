#!/usr/bin/env bash
# Starts one replica of 3. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

# Which replica this is: 0 to 2. Ports count upwards, devices too unless they are already pinned.
replica="${REPLICA:-0}"
if ! [[ "$replica" =~ ^(0|[1-9][0-9]{0,3})$ && "$replica" -lt 3 ]]; then
  echo "REPLICA is 0 to 2, not '$replica'" >&2
  exit 2
fi
port=$((8000 + replica))
first=$((replica * 1))
devices="$(seq -s, "$first" "$((first + 0))")"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-$devices}"

exec vllm serve meta-llama/Llama-3.1-8B-Instruct \
  --config "$here/config.yaml" \
  --revision=0e9e39f2 \
  --served-model-name=support-chat \
  --host=127.0.0.1 \
  --port "$port"
