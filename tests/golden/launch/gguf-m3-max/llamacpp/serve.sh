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
weights=(--model ./Qwen3-8B-Q5_K_M.gguf)
[[ -z "${SERVE_MODEL:-}" ]] || weights=(--model "$SERVE_MODEL")

exec llama-server "${weights[@]}" \
  --alias qwen \
  --host "${SERVE_HOST:-$host}" \
  --ctx-size 64512 \
  --parallel 4 \
  --batch-size 2048 \
  --ubatch-size 512 \
  --cache-type-k q8_0 \
  --cache-type-v q8_0 \
  --flash-attn on \
  --fit off \
  --n-gpu-layers 999 \
  --split-mode none \
  --metrics \
  --port "$port" "$@"
