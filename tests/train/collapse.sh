# Is a collapse seen and said (heads without batch norm), and is nothing said where there is none?
. "$(dirname "$0")/common.sh"
run() {
    "$trainer" pretrain --data "$pictures" --device cpu --image-size 16 --width 8 --projector-hidden 64 \
        --predictor-hidden 64 --output-dim 32 --train-limit 256 --batch 32 --epochs 14 --lr .3 --lr-schedule constant \
        --tau .9 --knn-every 0 "$@"
}
run --mlp-bn off --out off.safetensors >log 2>err
holds 'collapsed: for 3 epochs' err
holds '"collapsed": 1' off.run/run.json
holds 'The projections collapsed' off.run/report.html
run --mlp-bn on --out on.safetensors >log 2>err
! grep -q collapsed err || fail "a run with batch norm is called collapsed: $(tail -n 3 on.run/metrics.jsonl)"
holds '"collapsed": 0' on.run/run.json
