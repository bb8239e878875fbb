# Does a loss that is not finite stop the run with a reason, a report and the last good checkpoint in place?
. "$(dirname "$0")/common.sh"
run=("$trainer" pretrain "${small[@]}" --mlp-bn off --lr 1 --lr-schedule constant --warmup-epochs 40 --weight-decay 10
    --epochs 40 --checkpoint-every 1 --out m.safetensors)
status=0
"${run[@]}" >log 2>err || status=$?
[ "$status" -eq 1 ] || fail "status $status: $(tail -n 3 log)"
holds 'the loss is not finite at step' err
holds '"status": "failed"' m.run/run.json
holds '"reason": "the loss is not finite' m.run/run.json
holds 'the loss is not finite' m.run/report.html
python3 -c 'import json; [json.loads(line) for line in open("m.run/metrics.jsonl")]'
"$trainer" inspect m.run/checkpoint.lk >inspect
holds 'a training checkpoint' inspect
