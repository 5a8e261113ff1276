#!/usr/bin/env bash
# Starts the server. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

port=8000

exec vllm serve RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic \
  --config "$here/config.yaml" \
  --revision=4a3f0d2b \
  --served-model-name=meta-llama/Llama-3.1-70B-Instruct \
  --host=127.0.0.1 \
  --port "$port"
