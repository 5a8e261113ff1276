#!/usr/bin/env bash
# Starts the server. Why these numbers: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/llama-server.env"
set +a

port=8080

exec llama-server \
  --model /srv/models/Qwen3-8B-Q8_0.gguf \
  --alias qwen3 \
  --host 127.0.0.1 \
  --lora /srv/lora/billing.gguf \
  --ctx-size 4096 \
  --parallel 1 \
  --batch-size 512 \
  --ubatch-size 512 \
  --cache-type-k f16 \
  --cache-type-v f16 \
  --flash-attn on \
  --fit off \
  --n-gpu-layers 999 \
  --split-mode none \
  --metrics \
  --port "$port"
