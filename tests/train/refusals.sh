# Are wrong uses refused with a sentence that helps, before anything is overwritten?
. "$(dirname "$0")/common.sh"
refused 'did you mean --epochs' "$trainer" pretrain --data "$pictures" --epoch 3
refused '--data' "$trainer" pretrain
refused 'no such folder' "$trainer" pretrain --data nowhere
refused 'no command' "$trainer" train
refused '--batch 256' "$trainer" pretrain --data "$pictures" --train-limit 64
refused 'no checkpoint to resume from' "$trainer" pretrain --data "$pictures" --resume
refused 'lr' pretrain --lr fast

pretrain --epochs 1 --out m.safetensors >log
before=$(sha256sum m.run/checkpoint.lk)
refused '--overwrite begins anew' pretrain --epochs 1 --out m.safetensors
refused '--width was 8 when this run began and is 16 now' "$trainer" pretrain --resume --run-dir m.run --width 16
refused '--epochs was 1' "$trainer" pretrain --resume --run-dir m.run --epochs 2
mkdir other && cp "$pictures"/cat/* other
refused 'are not those that this run began with' "$trainer" pretrain --resume --run-dir m.run --data other
head -c 5000 m.run/checkpoint.lk >cut.lk && mkdir cut.run && mv cut.lk cut.run/checkpoint.lk
refused 'cut.run/checkpoint.lk' "$trainer" pretrain --resume --run-dir cut.run
mkdir weights.run && cp m.safetensors weights.run/checkpoint.lk
refused 'not a training checkpoint' "$trainer" pretrain --resume --run-dir weights.run
[ "$before" = "$(sha256sum m.run/checkpoint.lk)" ] || fail "a refused command changed the checkpoint"
pretrain --epochs 1 --out m.safetensors --overwrite --seed 1 >log
[ "$before" != "$(sha256sum m.run/checkpoint.lk)" ] || fail "--overwrite did nothing"

"$trainer" --help >help && holds 'pretrain' help
for command in pretrain knn embed inspect; do
    "$trainer" "$command" --help >help && holds 'Usage: likeness-trainer' help
done
"$trainer" --version | grep -Eq '^likeness-trainer [0-9]+\.[0-9]+' || fail "no version"
