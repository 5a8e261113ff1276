#!/usr/bin/env bash
# Starts the server. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

port=9000

exec vllm serve meta-llama/Llama-3.1-70B-Instruct \
  --config "$here/config.yaml" \
  --served-model-name=meta-llama/Llama-3.1-70B-Instruct \
  --host=0.0.0.0 \
  --port "$port"
