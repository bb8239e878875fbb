# Do pictures that are read again in every epoch train to the very losses and weights of pictures held in memory, and does a
# picture that changes meanwhile stop the run?
. "$(dirname "$0")/common.sh"
run() { # without the options in the records, which would differ
    local folder=$1
    shift
    mkdir "$folder"
    (cd "$folder" && pretrain --train-limit 100 --epochs 3 --knn-every 1 --knn-k 5 --export-dtype f32 \
        --out m.safetensors "$@" >log)
    "$trainer" inspect "$folder/m.safetensors" | grep -F fingerprint >"$folder/fingerprint"
}
run memory
run streamed --memory-bytes 1k
holds 'read again in every epoch' streamed/log
! grep -q 'read again' memory/log || fail "it streams what fits"
[ -s memory/fingerprint ] || fail "no fingerprint"
cmp memory/fingerprint streamed/fingerprint || fail "other weights"
diff <(timeless memory/m.run/metrics.jsonl) <(timeless streamed/m.run/metrics.jsonl) || fail "other losses"

# Resumed in the middle of an epoch, from the memory of one way into the other.
mkdir stopped
cd stopped
"$trainer" pretrain "${small[@]}" --train-limit 100 --epochs 3 --knn-every 1 --knn-k 5 --export-dtype f32 \
    --out m.safetensors --memory-bytes 1k >log 2>&1 &
pid=$!
wait_for '"kind": "epoch", "epoch": 1' m.run/metrics.jsonl
kill -TERM "$pid"
wait "$pid" || fail "a stopped run exits with $? ($(cat log))"
"$trainer" pretrain --resume --run-dir m.run --memory-bytes 0 >log
cd ..
"$trainer" inspect stopped/m.safetensors | grep -F fingerprint | cmp - memory/fingerprint || fail "other weights after a stop"

mkdir photos
cp "$pictures"/cat/*.jpg photos/
pretrain --data photos --train-limit 0 --epochs 500 --memory-bytes 1k --out changed.safetensors >log 2>err &
pid=$!
wait_for '"kind": "epoch", "epoch": 1' changed.run/metrics.jsonl
for file in photos/*; do printf 'no more' >"$file"; done
status=0
wait "$pid" || status=$?
[ "$status" -eq 1 ] || fail "status $status: $(tail -n 3 log)"
holds 'changed since the pictures were looked at' err
holds '"status": "failed"' changed.run/run.json
