# Are folders without labels and with broken files trained on, and what is skipped said by name?
. "$(dirname "$0")/common.sh"
mkdir -p flat
i=0
for file in "$pictures"/*/*; do
    i=$((i + 1))
    [ "$i" -le 40 ] && cp "$file" "flat/$i.${file##*.}"
done
printf '\xff\xd8\xff\xe0 no more' >flat/broken.jpg
printf 'notes' >flat/notes.txt
run() { pretrain --data flat --train-limit 0 --epochs 1 --knn-every 1 "$@"; }
run --out m.safetensors >log 2>err
holds 'flat/broken.jpg: skipped' err
holds '40 for training (no labels)' log
holds '1 skipped' log
holds 'alignment' log
holds '"skipped": 1' m.run/run.json
! grep -q '"knn"' m.run/metrics.jsonl || fail "kNN without labels"
grep -q '"uniformity"' m.run/metrics.jsonl || fail "no uniformity"
refused 'more than --max-bad 1 per cent' run --max-bad 1 --out other.safetensors
[ ! -e other.run ] || fail "a run that never began left a folder"
