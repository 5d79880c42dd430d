# What the bench runs against: private PostgreSQL, upstream, nginx and relay on free loopback ports. Sourced by `run`,
# which owns `folder`, `pids` and the cores.

missing_packages() {
  find_postgres || printf 'postgresql\n'
  command -v nginx >/dev/null || printf 'nginx-light\n'
  command -v wrk >/dev/null || printf 'wrk\n'
  command -v h2load >/dev/null || printf 'nghttp2-client\n'
  command -v valgrind >/dev/null || printf 'valgrind\n'
  command -v curl >/dev/null || printf 'curl\n'
  command -v taskset >/dev/null || printf 'util-linux\n'
}

find_postgres() {
  local candidate
  while IFS= read -r candidate; do
    if [[ -x $candidate/initdb && -x $candidate/pg_ctl && -x $candidate/postgres ]]; then
      pg_bin=$candidate
      return 0
    fi
  done < <(
    printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse
    printf '%s\n' /usr/local/pgsql/bin /usr/pgsql-*/bin
    dirname "$(command -v initdb || printf '/nowhere/initdb')"
  )
  return 1
}

install_missing() {
  local -a missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} > 0)); then
    section "Missing: ${missing[*]}"
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
      fail "These are missing and this user cannot install them. On Debian or Ubuntu, run:
  sudo apt-get install --no-install-recommends ${missing[*]}"
    fi
    # The bench starts its own servers; the packages must not start the system's.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
      policy_file=/usr/sbin/policy-rc.d
      printf '#!/bin/sh\nexit 101\n' >"$policy_file"
      chmod 755 "$policy_file"
    fi
    apt-get update || fail "apt-get update failed. Check the network, or install by hand: ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}" ||
      fail "The installation failed. Install by hand: ${missing[*]}"
    if [[ -n $policy_file ]]; then
      rm -f "$policy_file"
      policy_file=""
    fi
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} == 0)) || fail "Still missing after the installation: ${missing[*]}"
  fi
  find_postgres
  command -v cargo >/dev/null || fail "There is no cargo. Install a Rust toolchain: https://rustup.rs"
  (($(nproc) >= 2)) || fail "The bench needs two cores: one for the proxy, one for everything else."
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000)) # below the range of outgoing connections
    if port_is_free "$port"; then
      printf '%s\n' "$port"
      return 0
    fi
  done
  fail "No free port between 20000 and 32000 on 127.0.0.1."
}

# Waits until a process listens; what it wrote is shown when it does not.
wait_for_port() {
  local port=$1 pid=$2 log=$3
  for _ in {1..600}; do
    port_is_free "$port" || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$log" >&2
  fail "A server did not start; its log is above."
}

as_server_user() {
  if [[ -z $server_user ]]; then
    "$@"
  elif command -v runuser >/dev/null; then
    runuser -u "$server_user" -- "$@"
  else
    setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --clear-groups -- "$@"
  fi
}

start_postgres() {
  if [[ $(id -u) == 0 ]]; then
    # PostgreSQL refuses to run as root.
    server_user=postgres
    id "$server_user" >/dev/null 2>&1 || server_user=nobody
  fi
  mkdir "$folder/pg"
  chmod 711 "$folder"
  [[ -z $server_user ]] || chown "$server_user" "$folder/pg"
  pg_port=$(free_port)
  (
    cd "$folder"
    as_server_user "$pg_bin/initdb" --pgdata="$folder/pg" --username=truerelay --auth=trust --encoding=UTF8 --no-locale
    as_server_user taskset -c "$load_core" "$pg_bin/pg_ctl" --pgdata="$folder/pg" --log="$folder/pg/server.log" --wait \
      start --options="-p $pg_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder/pg"
  ) >"$folder/pg.log" 2>&1 || { cat "$folder/pg.log" >&2; fail "PostgreSQL did not start; its log is above."; }
  pg_pid=$(head -1 "$folder/pg/postmaster.pid")
}

stop_postgres() {
  if [[ -n $folder && -s $folder/pg/postmaster.pid ]]; then
    (cd "$folder" && as_server_user "$pg_bin/pg_ctl" --pgdata="$folder/pg" --mode=immediate --silent stop)
  fi
}

start_upstream() {
  upstream_port=$(free_port)
  taskset -c "$load_core" "$peer" upstream "127.0.0.1:$upstream_port" >"$folder/upstream.log" 2>&1 &
  pids+=("$!")
  wait_for_port "$upstream_port" "$!" "$folder/upstream.log"
}

write_nginx_config() {
  nginx_port=$(free_port)
  local user=""
  [[ $(id -u) == 0 ]] && user="user root;"
  cat >"$folder/nginx.conf" <<CONFIG
$user
worker_processes 1;
daemon off;
pid $folder/nginx.pid;
error_log $folder/nginx.log error;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_buffer_size 256k;
  client_body_temp_path $folder/nginx-body;
  proxy_temp_path $folder/nginx-proxy;
  fastcgi_temp_path $folder/nginx-fastcgi;
  uwsgi_temp_path $folder/nginx-uwsgi;
  scgi_temp_path $folder/nginx-scgi;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffers 16 16k;
  upstream peer { server 127.0.0.1:$upstream_port; keepalive 2048; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:$nginx_port backlog=4096;
    location / { proxy_pass http://peer; }
    location /stream/ { proxy_pass http://peer; proxy_buffering off; }
  }
}
CONFIG
}

start_nginx() {
  write_nginx_config
  taskset -c "$proxy_core" nginx -p "$folder" -c "$folder/nginx.conf" >"$folder/nginx.out" 2>&1 &
  nginx_master=$!
  pids+=("$nginx_master")
  wait_for_port "$nginx_port" "$nginx_master" "$folder/nginx.out"
  nginx_pid=$(cat "/proc/$nginx_master/task/$nginx_master/children")
  nginx_pid=${nginx_pid%% *}
}

relay_environment() {
  relay_port=$(free_port)
  admin_port=$(free_port)
  admin="http://127.0.0.1:$admin_port/admin/v1"
  local hex
  hex() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
  export TRUERELAY__SERVER__LISTEN="127.0.0.1:$relay_port" TRUERELAY__SERVER__WORKERS=1
  export TRUERELAY__ADMIN__LISTEN="127.0.0.1:$admin_port" TRUERELAY__DATA__FOLDER="$folder/data"
  export TRUERELAY__DATABASE__URL="postgres://truerelay@127.0.0.1:$pg_port/postgres"
  export TRUERELAY__DATABASE__MIGRATE_ON_START=true
  # as many as nginx keeps
  export TRUERELAY__OUTBOUND__POOL_MAX_IDLE_PER_HOST=2048
  TRUERELAY_ENCRYPTION_KEY="k1:$(hex)" TRUERELAY_PEPPER="p1:$(hex)"
  TRUERELAY_SIGNING_KEY="$(openssl genpkey -algorithm ed25519)"
  export TRUERELAY_ENCRYPTION_KEY TRUERELAY_PEPPER TRUERELAY_SIGNING_KEY
}

# Starts the relay on its core, under the given tool if any.
start_relay() {
  taskset -c "$proxy_core" "$@" "$truerelay" serve >"$folder/relay.log" 2>&1 &
  relay_pid=$!
  pids+=("$relay_pid")
  wait_for_port "$relay_port" "$relay_pid" "$folder/relay.log"
  for _ in {1..600}; do
    [[ $(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$relay_port/readyz") == 200 ]] && return 0
    sleep 0.1
  done
  fail "The relay is not ready."
}

# Ends a process that was started here and waits for its end.
stop_process() {
  kill -TERM "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

call() {
  local answer
  if answer=$(curl --silent --show-error --fail-with-body -H "Authorization: Bearer $token" \
    -H 'Content-Type: application/json' "$@"); then
    printf '%s\n' "$answer"
  else
    fail "The admin API answered: $answer"
  fi
}

field() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" | head -1; }
id_field() { sed -n 's/^[^"]*"id":"\([^"]*\)".*/\1/p; s/^{"key":{"id":"\([^"]*\)".*/\1/p' | head -1; }

# One provider, pool and offer: `offer MODEL KIND DELAY_MS` sells MODEL from that answer of the upstream.
offer() {
  local model=$1 kind=$2 delay_ms=$3 provider pool
  provider=$(call "$admin/providers" -d "{\"slug\":\"bench-$kind-$delay_ms\",\"name\":\"bench\",\"formats\":[\"openai_chat\"],
    \"base_url\":\"http://127.0.0.1:$upstream_port/$kind/$delay_ms/v1\",\"allow_private_address\":true}" | id_field)
  pool=$(call "$admin/pools" -d "{\"provider\":\"$provider\",\"name\":\"$kind-$delay_ms\",\"multiplier\":\"1.2\"}" | id_field)
  call "$admin/pools/$pool/credentials" -d '{"name":"one","secret":"sk-bench","basis":"own_contract"}' >/dev/null
  call "$admin/offers" -d "{\"model\":\"$model\",\"pool\":\"$pool\",\"upstream_model_id\":\"bench\",\"template\":\"openai\"}" >/dev/null
}

# A key with a request limit that is counted and never reached.
create_key() { call "$admin/tenants/$tenant/keys" -d '{"name":"bench","requests_per_minute":1000000}'; }

set_up_relay() {
  token=$("$truerelay" operator token create --name bench --role full 2>>"$folder/relay.log")
  offer openai/gpt-5-mini small 0
  offer openai/gpt-5-nano large 0
  offer openai/gpt-4o-mini small 20
  offer openai/gpt-4.1-mini stream 20
  tenant=$(call "$admin/tenants" -d '{"name":"bench"}' | id_field)
  call "$admin/tenants/$tenant/grants" -H 'Idempotency-Key: bench' -d '{"kind":"payment","amount_usd":"1000000"}' >/dev/null
  key=$(create_key | field secret)
  [[ -n $key ]] || fail "The relay could not be set up."
  export KEY=$key
}
