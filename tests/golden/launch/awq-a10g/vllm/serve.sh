#!/usr/bin/env bash
# Starts the server. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

port=8000

exec vllm serve hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4 \
  --config "$here/config.yaml" \
  --served-model-name=meta-llama/Llama-3.1-8B-Instruct \
  --host=127.0.0.1 \
  --port "$port"
