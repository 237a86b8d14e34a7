#!/usr/bin/env bash
# Control script for Lightbox under a load driver.  usage: lightbox.sh start|stop|wipe|pid
# Environment: BENCH_WORK (where its data goes), LIGHTBOX_HTTP, LIGHTBOX_DIMSE (ports), and any PACS_ setting.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
work=${BENCH_WORK:-$PWD/bench-work}
mkdir -p "$work"
export PACS_DATA_DIR=$work/lightbox PACS_HTTP_PORT=${LIGHTBOX_HTTP:-28080} PACS_DIMSE_PORT=${LIGHTBOX_DIMSE:-21112}
pid_file=$work/lightbox.pid

case ${1:-} in
  start)
    "$top/.venv/bin/pacs" serve > "$work/lightbox.log" 2>&1 &
    echo $! > "$pid_file"
    for _ in $(seq 600); do
      curl -sf -o /dev/null "http://127.0.0.1:$PACS_HTTP_PORT/readyz" && exit 0
      sleep 0.05
    done
    echo "Lightbox did not become ready; see $work/lightbox.log" >&2
    exit 1 ;;
  stop)
    if [ -f "$pid_file" ]; then
      pid=$(cat "$pid_file")
      kill "$pid" 2> /dev/null && while kill -0 "$pid" 2> /dev/null; do sleep 0.05; done
      rm -f "$pid_file"
    fi ;;
  wipe) rm -rf "$PACS_DATA_DIR" ;;
  pid) cat "$pid_file" ;;
  *) echo "usage: $0 start|stop|wipe|pid" >&2; exit 2 ;;
esac
