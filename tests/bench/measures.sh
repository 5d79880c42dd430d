# How each number is taken. Sourced by `run`.

# Processor time of processes in microseconds, user and system, all their threads: the sum that the kernel splits into
# the user and system ticks of /proc/PID/stat, before it is rounded to ticks.
cpu_us() {
  local pid
  for pid in "$@"; do
    cat "/proc/$pid/task/"*/schedstat 2>/dev/null
  done | awk '{ total += $1 } END { printf "%d\n", total / 1000 }'
}

postgres_pids() { printf '%s\n' "$pg_pid" && cat "/proc/$pg_pid/task/$pg_pid/children"; }

# shellcheck disable=SC2046
postgres_cpu_us() { cpu_us $(postgres_pids); }

rss_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

url_of() {
  local proxy=$1 kind=$2 delay_ms=$3
  case $proxy in
    relay) printf 'http://127.0.0.1:%s/v1/chat/completions\n' "$relay_port" ;;
    nginx) printf 'http://127.0.0.1:%s/%s/%s/v1/chat/completions\n' "$nginx_port" "$kind" "$delay_ms" ;;
    direct) printf 'http://127.0.0.1:%s/%s/%s/v1/chat/completions\n' "$upstream_port" "$kind" "$delay_ms" ;;
  esac
}

# A chat request for the model: `body FILE MODEL BYTES EXTRA`.
body() {
  local file=$1 model=$2 bytes=$3 extra=$4
  {
    printf '{"model":"%s",%s"max_tokens":64,"messages":[{"role":"system","content":"Answer briefly."},{"role":"user","content":"' \
      "$model" "$extra"
    head -c $((bytes - 160)) < <(while :; do printf 'A question of many words, as people ask them. '; done)
    printf '"}]}'
  } >"$folder/$file"
}

# Requests at a steady rate over so many connections, which begin apart: `steady PROXY KIND DELAY BODY CONNECTIONS RATE
# SECONDS`. Leaves the log of single requests in $folder/requests.log; fails when one is not answered with 200.
steady() {
  local proxy=$1 kind=$2 delay_ms=$3 body=$4 connections=$5 rate=$6 seconds=$7
  local each=$(((rate * seconds + connections - 1) / connections)) rps apart_ms
  rps=$(awk -v r="$rate" -v c="$connections" 'BEGIN { printf "%.4f", r / c }')
  apart_ms=$((rate < 1000 ? 1000 / rate : 1))
  sent=$((each * connections))
  rm -f "$folder/requests.log"
  taskset -c "$load_core" h2load --h1 -c "$connections" -n "$sent" --rps "$rps" -r 1 --rate-period "${apart_ms}ms" \
    -d "$folder/$body" -H "authorization: Bearer $KEY" -H 'content-type: application/json' \
    --log-file "$folder/requests.log" "$(url_of "$proxy" "$kind" "$delay_ms")" >"$folder/h2load.out" 2>&1 ||
    { cat "$folder/h2load.out" >&2; fail "h2load failed."; }
  local good
  good=$(awk '$2 == 200' "$folder/requests.log" | wc -l)
  [[ $good == "$sent" ]] || fail "$proxy answered $good of $sent requests with 200 at $connections connections."
}

# The 50th and 99th percentile of the last `steady`, in microseconds, without its first fifth.
percentiles() {
  sort -n "$folder/requests.log" | tail -n +$((sent / 5 + 1)) | cut -f 3 | sort -n |
    awk '{ t[NR] = $1 } END { print t[int((NR - 1) * 0.50) + 1], t[int((NR - 1) * 0.99) + 1] }'
}

# Processor time for each request at 1,000 a second: `cpu_each PROXY PID KIND DELAY BODY`: sets cpu_proxy and cpu_postgres.
cpu_each() {
  local proxy=$1 pid=$2 kind=$3 delay_ms=$4 body=$5 before before_pg
  steady "$proxy" "$kind" "$delay_ms" "$body" 64 1000 1
  before=$(cpu_us "$pid")
  before_pg=$(postgres_cpu_us)
  steady "$proxy" "$kind" "$delay_ms" "$body" 64 1000 8
  cpu_proxy=$(awk -v t="$(($(cpu_us "$pid") - before))" -v n="$sent" 'BEGIN { printf "%.1f", t / n }')
  cpu_postgres=$(awk -v t="$(($(postgres_cpu_us) - before_pg))" -v n="$sent" 'BEGIN { printf "%.1f", t / n }')
}

# Closed loop with more and more connections: `saturate PROXY PID KIND BODY CONNECTIONS...`: sets the best rate, at how
# many connections, how busy the proxy's process was then in percent of its core, and PostgreSQL of the other.
saturate() {
  local proxy=$1 pid=$2 kind=$3 body=$4 connections rate before before_pg from spent
  shift 4
  best_rate=0
  for connections in "$@"; do
    before=$(cpu_us "$pid")
    before_pg=$(postgres_cpu_us)
    from=$(date +%s%N)
    BODY_FILE="$folder/$body" taskset -c "$load_core" wrk -t 1 -c "$connections" -d 5s --timeout 10s \
      -s tests/bench/post.lua "$(url_of "$proxy" "$kind" 0)" >"$folder/wrk.out" 2>&1
    spent=$((($(date +%s%N) - from) / 1000))
    if grep -q 'Non-2xx' "$folder/wrk.out"; then
      cat "$folder/wrk.out" >&2
      fail "$proxy did not answer all requests with 200."
    fi
    rate=$(awk '/^Requests\/sec/ { printf "%d", $2 }' "$folder/wrk.out")
    if ((rate > best_rate)); then
      best_rate=$rate
      best_connections=$connections
      best_busy=$((($(cpu_us "$pid") - before) * 100 / spent))
      best_busy_postgres=$((($(postgres_cpu_us) - before_pg) * 100 / spent))
    fi
  done
}

# Lets callgrind count while so many requests are answered: `count_instructions PROXY PID`. The process runs under
# callgrind with counting off, and writes what was counted when it ends.
count_instructions() {
  local proxy=$1 pid=$2
  load_closed "$proxy" 320
  callgrind_control -i on "$pid" >/dev/null 2>&1
  load_closed "$proxy" "$counted_requests"
  sleep 1
  callgrind_control -i off "$pid" >/dev/null 2>&1
}

load_closed() {
  taskset -c "$load_core" h2load --h1 -c 64 -n "$2" -d "$folder/small.json" -H "authorization: Bearer $KEY" \
    -H 'content-type: application/json' "$(url_of "$1" small 0)" >"$folder/h2load.out" 2>&1
  grep -q "status codes: $2 2xx" "$folder/h2load.out" || { cat "$folder/h2load.out" >&2; fail "Not all were answered."; }
}

# What callgrind counted, for each request.
instructions_each() { awk -v n="$counted_requests" '/^totals:/ { total += $2 } END { printf "%d\n", total / n }' "$1"; }

# How many of them were SHA-256, for each request; the build must have the names of its functions.
hashing_each() {
  callgrind_annotate --auto=no --threshold=100 "$1" 2>/dev/null |
    awk -v n="$counted_requests" '/:sha2::/ { gsub(",", "", $1); total += $1 } END { printf "%d\n", total / n }'
}

# From the answer to a revocation to the first 401, in milliseconds.
revocation_ms() {
  local created secret id from status
  created=$(create_key)
  secret=$(field secret <<<"$created")
  id=$(id_field <<<"$created")
  try() {
    status=$(curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $secret" -H 'Content-Type: application/json' \
      -d @"$folder/small.json" "http://127.0.0.1:$relay_port/v1/chat/completions")
  }
  try
  [[ $status == 200 ]] || fail "A new key was answered with $status."
  call -X POST "$admin/keys/$id/revoke" >/dev/null
  from=$(date +%s%N)
  for _ in {1..2000}; do
    try
    [[ $status == 401 ]] && break
  done
  [[ $status == 401 ]] || fail "A revoked key still works."
  printf '%s\n' "$((($(date +%s%N) - from) / 1000000))"
}

# How many requests took so long or less before their dispatch: a line `SECONDS COUNT` for each bucket.
dispatch_buckets() {
  curl -s "http://127.0.0.1:$admin_port/metrics" |
    sed -n 's/^truerelay_before_dispatch_seconds_bucket{le="\([0-9.e-]*\)"} \([0-9]*\)$/\1 \2/p'
}

# The bounds in which the 50th and the 99th percentile of what came between two such readings lie, in microseconds.
dispatch_percentiles() {
  paste -d ' ' "$1" "$2" | awk '
    { bound[NR] = $1 * 1e6; count[NR] = $4 - $2 }
    END {
      for (p = 50; p <= 99; p += 49)
        for (i = 1; i <= NR; i++)
          if (count[i] >= count[NR] * p / 100) { printf "%s%d", (p == 50 ? "" : " "), bound[i]; break }
      print ""
    }'
}

requests_per_second() { sed -n 's/.*: \([0-9]*\) requests\/s.*/\1/p'; }
