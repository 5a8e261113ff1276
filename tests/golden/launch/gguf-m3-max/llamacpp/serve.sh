#!/usr/bin/env bash
# Starts the server. Why these numbers: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/llama-server.env"
set +a

port=8080

exec llama-server \
  --model ./Qwen3-8B-Q5_K_M.gguf \
  --alias qwen \
  --host 127.0.0.1 \
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
  --port "$port"
