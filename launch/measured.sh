# shellcheck shell=bash
# Sourced by the scripts that measure a model, which take MODEL [KEY=VALUE …]: measures it with `settings`, into OUT, by default
# runs/measured/MODEL-$name.
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
model=$1
shift
[ ! -d "$model" ] || model=$(cd "$model" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC2154
exec python -m dante.evaluate measure "$model" --out "${OUT:-runs/measured/$(basename "$model")-$name}" \
  "${settings[@]}" data.benchmarks="${BENCHMARKS:-package}" "$@"
