# Shared by the training tests: a folder that is removed at the end, a small run of the trainer, and checks.
set -euo pipefail
export OMP_WAIT_POLICY=passive # other tests run at the same time: a spinning wait would take their core
trainer=$LK_BIN_DIR/likeness-trainer
pictures=$LK_SOURCE_DIR/tests/data/cifar10-sample
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# A net that trains in a second or two: 16 pixels, 8 channels, small heads, 64 pictures in steps of 16.
small=(--data "$pictures" --device cpu --image-size 16 --width 8 --projector-hidden 64 --predictor-hidden 64
    --output-dim 32 --train-limit 64 --batch 16 --knn-every 0 --log-every 1)

fail() {
    printf 'failed: %s\n' "$*" >&2
    exit 1
}

pretrain() { "$trainer" pretrain "${small[@]}" "$@"; }

# refused TEXT COMMAND...: the command must fail and say TEXT.
refused() {
    local text=$1 status=0
    shift
    "$@" >refused.out 2>&1 || status=$?
    [ "$status" -ne 0 ] || fail "accepted: $*"
    [ "$status" -lt 126 ] || fail "status $status: $*"
    grep -qF -- "$text" refused.out || fail "'$text' is not in the answer of: $* ($(cat refused.out))"
}

holds() { grep -qF -- "$1" "$2" || fail "'$1' is not in $2: $(tail -n 5 "$2")"; }

# The metrics without what depends on the clock.
timeless() { sed -E 's/, "(images_per_second|seconds|wall_s)": [^,}]*//g' "$1"; }

# wait_for TEXT FILE: until the file holds the text (or a minute has passed).
wait_for() {
    local text=$1 file=$2 i
    for i in $(seq 600); do
        grep -qF -- "$text" "$file" 2>/dev/null && return
        sleep 0.1
    done
    fail "'$text' did not come in $file"
}
