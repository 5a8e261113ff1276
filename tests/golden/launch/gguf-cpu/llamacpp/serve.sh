#!/usr/bin/env bash
# Starts the server. Why these numbers: README.md.
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

host=127.0.0.1
weights=(--hf-repo bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M)
[[ -z "${SERVE_MODEL:-}" ]] || weights=(--model "$SERVE_MODEL")

exec llama-server "${weights[@]}" \
  --alias meta-llama/Llama-3.1-8B-Instruct \
  --host "${SERVE_HOST:-$host}" \
  --ctx-size 16384 \
  --parallel 2 \
  --batch-size 2048 \
  --ubatch-size 512 \
  --cache-type-k f16 \
  --cache-type-v f16 \
  --flash-attn on \
  --fit off \
  --device none \
  --n-gpu-layers 0 \
  --metrics \
  --port "$port" "$@"
