#!/usr/bin/env bash
# Starts the server. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

port=8000

exec vllm serve ./Qwen3-8B-W4A16 \
  --config "$here/config.yaml" \
  --served-model-name=Qwen/Qwen3-8B \
  --host=127.0.0.1 \
  --port "$port"
