# shellcheck shell=bash
# Sourced by the scripts that rebuild a shipped cache, which take [VLLM_ENV [OUT [OVERRIDE …]]]: sets `environment` (made if it is
# not there) and `out` (default: $default_out), leaves the overrides in "$@", and goes to the lab's folder.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=${1:-.venv-vllm}
out=${2:-$here/$default_out}
shift $(($# < 2 ? $# : 2))

[ -x "$environment/bin/python" ] || "$here/launch/vllm_cpu_env.sh" "$environment"
environment=$(cd "$environment" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"
