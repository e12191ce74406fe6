#!/usr/bin/env bash
# Serves a teacher with vLLM on this machine, for the server engine (conf/engine/server.yaml).
#
#   launch/serve_teacher.sh VLLM_ENV MODEL_DIR [PORT [vLLM option …]]     PORT: 8000; e.g. --tensor-parallel-size 8
#   launch/serve_teacher.sh stop PIDFILE
#
# Returns when the server answers; it goes on in the background. Pid and log are written to $SERVE_DIR (default: build).
# DTYPE (bfloat16), MAX_MODEL_LEN (the model's own) and READY_TIMEOUT_S (900) come from the environment. The server is
# bound to 127.0.0.1 and has no key; set VLLM_API_KEY to give it one.
set -euo pipefail

stop() {
  local file=$1 pid
  pid=$(cat "$file")
  # The number may belong to another process by now.
  if grep -qs vllm.entrypoints "/proc/$pid/cmdline"; then
    # The server leads a group of its own: its workers end with it.
    kill -TERM -- "-$pid"
    for _ in $(seq 100); do kill -0 -- "-$pid" 2> /dev/null || break; sleep 0.2; done
    kill -KILL -- "-$pid" 2> /dev/null || true
  fi
  rm -f "$file"
  echo "stopped: $pid"
}

if [ "${1:-}" = stop ] && [ $# -eq 2 ]; then
  stop "$2"
  exit
fi
if [ $# -lt 2 ]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
fi
environment=$1 model=$2 port=${3:-8000}
shift $(($# < 3 ? $# : 3))
out=${SERVE_DIR:-build}
mkdir -p "$out"
out=$(cd "$out" && pwd)
pidfile=$out/serve_teacher-$port.pid log=$out/serve_teacher-$port.log
if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
  echo "something listens on port $port already" >&2
  exit 1
fi
[ -x "$environment/bin/python" ] || { echo "no interpreter at $environment/bin/python (launch/vllm_cpu_env.sh builds one)" >&2; exit 1; }

options=(--model "$model" --served-model-name teacher --host 127.0.0.1 --port "$port" --dtype "${DTYPE:-bfloat16}")
# 50 log-probabilities at most, taken before temperature and top-p; sampling settings come from the requests alone.
options+=(--max-logprobs 50 --logprobs-mode raw_logprobs --generation-config vllm)
[ -z "${MAX_MODEL_LEN:-}" ] || options+=(--max-model-len "$MAX_MODEL_LEN")
if ! command -v nvidia-smi > /dev/null; then
  options+=(--enforce-eager)
  export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-2} VLLM_CPU_NUM_OF_RESERVED_CPU=0
fi
export VLLM_NO_USAGE_STATS=1 TOKENIZERS_PARALLELISM=false
unset PYTHONPATH # the lab's packages must not reach into the server's environment

setsid "$environment/bin/python" -m vllm.entrypoints.openai.api_server "${options[@]}" "$@" > "$log" 2>&1 < /dev/null &
pid=$!
echo "$pid" > "$pidfile"
trap 'stop "$pidfile"; exit 130' INT TERM
url=http://127.0.0.1:$port
for _ in $(seq "${READY_TIMEOUT_S:-900}"); do
  if ! kill -0 "$pid" 2> /dev/null; then
    echo "the server died; the end of $log:" >&2
    tail -n 5 "$log" >&2
    rm -f "$pidfile"
    exit 1
  fi
  if "$environment/bin/python" -c "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('$url/health', timeout=2)" 2> /dev/null; then
    echo "ready: engine.base_url=$url/v1"
    echo "log:   $log"
    echo "stop:  $0 stop $pidfile"
    exit 0
  fi
  sleep 1
done
echo "not ready after ${READY_TIMEOUT_S:-900} s; see $log" >&2
stop "$pidfile"
exit 1
