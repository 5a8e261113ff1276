#!/usr/bin/env bash
# Starts the server. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

port=8000

exec vllm serve Qwen/Qwen3-30B-A3B-Instruct-2507-FP8 \
  --config "$here/config.yaml" \
  --served-model-name=Qwen/Qwen3-30B-A3B-Instruct-2507 \
  --host=127.0.0.1 \
  --port "$port"
