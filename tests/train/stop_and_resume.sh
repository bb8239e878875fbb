# Does SIGTERM or SIGINT in the middle of an epoch save, exit 0, say how to go on, and is going on exact? Several stops.
. "$(dirname "$0")/common.sh"
run=("$trainer" pretrain "${small[@]}" --train-limit 400 --batch 8 --epochs 8 --optimizer adam --tau-schedule cosine
    --warmup-epochs 1 --out m.safetensors)
mkdir whole stopped
(cd whole && "${run[@]}" >log)

cd stopped
inside=0
stop_soon() { # stop_soon SECONDS SIGNAL COMMAND...: lets it train for a moment, stops it, looks at what it left
    local pause=$1 signal=$2 pid
    shift 2
    rm -f m.run/run.json
    "$@" >log 2>&1 &
    pid=$!
    wait_for '"status": "running"' m.run/run.json
    sleep "$pause"
    kill "-$signal" "$pid"
    wait "$pid" || fail "a stopped run exits with $? ($(cat log))"
    holds 'likeness-trainer pretrain --resume --run-dir m.run' log
    holds '"status": "interrupted"' m.run/run.json
    local steps
    steps=$(sed -nE 's/.*"steps": ([0-9]+).*/\1/p' m.run/run.json)
    [ $((steps % 50)) -eq 0 ] || inside=$((inside + 1))
}
stop_soon 0.2 TERM "${run[@]}"
stop_soon 0.3 INT "$trainer" pretrain --resume --run-dir m.run
stop_soon 0.1 TERM "$trainer" pretrain --resume --run-dir m.run
"$trainer" pretrain --resume --run-dir m.run >log
cd ..
[ "$inside" -gt 0 ] || fail "no stop fell inside an epoch"
diff <(timeless whole/m.run/metrics.jsonl) <(timeless stopped/m.run/metrics.jsonl) || fail "other losses"
cmp whole/m.safetensors stopped/m.safetensors || fail "other weights"
