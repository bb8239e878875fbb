# Does BYOL learn: does the loss fall, and do embeddings of real pictures beat the random weights' at finding their class?
. "$(dirname "$0")/common.sh"
"$trainer" pretrain --data "$pictures" --device cpu --image-size 16 --width 8 --projector-hidden 64 \
    --predictor-hidden 64 --output-dim 32 --batch 50 --epochs 8 --knn-every 8 --knn-k 20 --out m.safetensors >log

losses=$(sed -nE 's/.*"kind": "epoch", "epoch": [1-9][0-9]*, "loss": ([0-9.]+).*/\1/p' m.run/metrics.jsonl)
[ "$(wc -l <<<"$losses")" -eq 8 ] || fail "expected 8 epochs: $losses"
awk 'NR == 1 {first = $1} {last = $1} END {exit !(last < .85 * first && last > 0)}' <<<"$losses" ||
    fail "the loss does not fall: $losses"
knn=$(sed -nE 's/.*"kind": "epoch".*"knn": ([0-9.]+).*/\1/p' m.run/metrics.jsonl)
[ "$(wc -l <<<"$knn")" -eq 2 ] || fail "expected kNN of random weights and of the end: $knn"
awk '{exit !($1 > 12)}' <<<"$(tail -n 1 <<<"$knn")" || fail "kNN is that of chance: $knn"
holds '(leave one out)' log
holds '"knn_protocol": "k=20 T=0.1 cosine, 1000 training pictures against the other 999 (leave one out)"' m.run/run.json
for file in run.json metrics.jsonl report.html checkpoint.lk best.lk best.safetensors; do
    [ -s "m.run/$file" ] || fail "no $file in the run folder"
done
python3 -c 'import json; r = json.load(open("m.run/run.json")); assert r["run"]["status"] == "finished", r
[json.loads(line) for line in open("m.run/metrics.jsonl")]'
