# Does a run that was killed and resumed end in the very bytes of one that was not? Same relative paths in two folders, so
# that the recorded command is the same too.
. "$(dirname "$0")/common.sh"
run=("$trainer" pretrain "${small[@]}" --epochs 8 --checkpoint-every 1 --knn-every 2 --knn-k 5 --out m.safetensors)
mkdir whole killed
(cd whole && "${run[@]}" >log)

cd killed
"${run[@]}" >log 2>&1 &
pid=$!
wait_for '"kind": "epoch", "epoch": 3' m.run/metrics.jsonl
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
[ -e m.run/checkpoint.lk ] || fail "no checkpoint"
! grep -q '"kind": "final"' m.run/metrics.jsonl || fail "it had finished before it was killed"
"$trainer" pretrain --resume --run-dir m.run >log
cd ..
holds resumed killed/log
diff <(timeless whole/m.run/metrics.jsonl) <(timeless killed/m.run/metrics.jsonl) || fail "other losses"
cmp whole/m.safetensors killed/m.safetensors || fail "other weights"
cmp whole/m.run/best.safetensors killed/m.run/best.safetensors || fail "another best model"
holds '"resumed_by": "likeness-trainer pretrain --resume --run-dir m.run"' killed/m.run/run.json

# Resuming a finished run changes nothing.
(cd killed && cp m.safetensors before && "$trainer" pretrain --resume --run-dir m.run >log2 && cmp before m.safetensors)
diff <(timeless whole/m.run/metrics.jsonl) <(timeless killed/m.run/metrics.jsonl) || fail "resuming twice adds lines"
