# Do the recipes run, with the optimiser, heads and views that they name?
. "$(dirname "$0")/common.sh"
for recipe in tutorial lars; do
    "$trainer" pretrain --recipe "$recipe" --data "$pictures" --device cpu --image-size 16 --width 8 --train-limit 64 \
        --batch 32 --epochs 2 --knn-every 0 --out "$recipe.safetensors" >log
    holds "$recipe recipe" log
    holds 'finished   2 epochs' log
done
holds '"optimizer": "adam"' tutorial.run/run.json
holds '"predictor_batch_norm": 0' tutorial.run/run.json
holds '"projector-hidden": 2048' tutorial.run/run.json
holds '"optimizer": "lars"' lars.run/run.json
holds '"learning_rate": 0.125' lars.run/run.json
# Equal settings by hand are the same run: the recipe is nothing but its options.
"$trainer" pretrain --optimizer adam --lr-schedule constant --loss-scale 1 --projector-hidden 2048 \
    --predictor-hidden 2048 --predictor-bn off --brightness .8 --contrast .8 --saturation .8 --hue .2 --blur-p .5 \
    --data "$pictures" --device cpu --image-size 16 --width 8 --train-limit 64 --batch 32 --epochs 2 --knn-every 0 \
    --out hand.safetensors >log
diff <(timeless tutorial.run/metrics.jsonl) <(timeless hand.run/metrics.jsonl) || fail "the recipe does something else"
