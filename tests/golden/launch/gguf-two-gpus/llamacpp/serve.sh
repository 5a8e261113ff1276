#!/usr/bin/env bash
# Starts one replica of 2. Why these numbers: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/llama-server.env"
set +a

# Of this machine alone, from the environment: SERVE_MODEL (a folder or file that holds the weights), SERVE_HOST, SERVE_PORT.
port="${SERVE_PORT:-8080}"
if ! [[ "$port" =~ ^[1-9][0-9]{0,4}$ ]]; then
  echo "SERVE_PORT is a number, not '$port'" >&2
  exit 2
fi

# Which replica this is: 0 to 1. Ports count upwards, devices too unless they are already pinned.
replica="${REPLICA:-0}"
if ! [[ "$replica" =~ ^(0|[1-9][0-9]{0,3})$ && "$replica" -lt 2 ]]; then
  echo "REPLICA is 0 to 1, not '$replica'" >&2
  exit 2
fi
port=$((port + replica))
first=$((replica * 2))
devices="$(seq -s, "$first" "$((first + 1))")"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-$devices}"

host=127.0.0.1
weights=(--hf-repo bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Q4_K_M)
[[ -z "${SERVE_MODEL:-}" ]] || weights=(--model "$SERVE_MODEL")

exec llama-server "${weights[@]}" \
  --alias meta-llama/Llama-3.1-70B-Instruct \
  --host "${SERVE_HOST:-$host}" \
  --ctx-size 32768 \
  --parallel 4 \
  --batch-size 2048 \
  --ubatch-size 512 \
  --cache-type-k f16 \
  --cache-type-v f16 \
  --flash-attn on \
  --fit off \
  --n-gpu-layers 999 \
  --split-mode layer \
  --tensor-split 1,1 \
  --metrics \
  --offline \
  --port "$port" "$@"
