#!/usr/bin/env bash
# Starts the server. Numbers: config.yaml. Why: README.md.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
set -a
. "$here/vllm.env"
set +a

# Of this machine alone, from the environment: SERVE_MODEL (a folder or file that holds the weights), SERVE_HOST, SERVE_PORT.
port="${SERVE_PORT:-8000}"
if ! [[ "$port" =~ ^[1-9][0-9]{0,4}$ ]]; then
  echo "SERVE_PORT is a number, not '$port'" >&2
  exit 2
fi

host=127.0.0.1
model=./Llama-3.1-8B-Instruct-W4A16

exec vllm serve "${SERVE_MODEL:-$model}" \
  --config "$here/config.yaml" \
  --served-model-name=meta-llama/Llama-3.1-8B-Instruct \
  "--host=${SERVE_HOST:-$host}" \
  --port "$port" "$@"
