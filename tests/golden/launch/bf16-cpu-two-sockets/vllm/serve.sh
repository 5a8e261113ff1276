#!/usr/bin/env bash
# Starts one replica of 2. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

# Of this machine alone, from the environment: SERVE_MODEL (a folder or file that holds the weights), SERVE_HOST, SERVE_PORT.
port="${SERVE_PORT:-8000}"
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
first=$((replica * 1))
devices="$(seq -s, "$first" "$((first + 0))")"
export CPU_VISIBLE_MEMORY_NODES="${CPU_VISIBLE_MEMORY_NODES:-$devices}"

host=127.0.0.1
model=meta-llama/Llama-3.1-8B-Instruct

exec vllm serve "${SERVE_MODEL:-$model}" \
  --config "$here/config.yaml" \
  --served-model-name=meta-llama/Llama-3.1-8B-Instruct \
  "--host=${SERVE_HOST:-$host}" \
  --port "$port" "$@"
