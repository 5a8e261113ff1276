#!/usr/bin/env bash
# Starts the server. Why these numbers: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/llama-server.env"
set +a

port=8080

exec llama-server \
  --hf-repo bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M \
  --alias meta-llama/Llama-3.1-8B-Instruct \
  --host 127.0.0.1 \
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
  --port "$port"
