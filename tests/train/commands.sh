# Do knn, embed and inspect agree with the run that made the weights, and with each other?
. "$(dirname "$0")/common.sh"
mkdir -p data/train data/test
for class in cat ship horse; do
    mkdir -p "data/train/$class" "data/test/$class"
    n=0
    for file in "$pictures/$class"/*; do
        n=$((n + 1))
        [ "$n" -le 30 ] && cp "$file" "data/train/$class/"
        [ "$n" -gt 30 ] && [ "$n" -le 40 ] && cp "$file" "data/test/$class/"
    done
done
"$trainer" pretrain --data data --device cpu --image-size 16 --width 8 --projector-hidden 64 --predictor-hidden 64 \
    --output-dim 32 --batch 30 --epochs 4 --knn-every 4 --knn-k 7 --export-dtype f32 --out m.safetensors >log
"$trainer" knn --model m.safetensors --data data --device cpu --precision fp32 --k 7 >knn
"$trainer" knn --model m.safetensors --data data --device cpu --precision fp32 --k 7 --json >knn.json
holds 'k=7 T=0.1 cosine, 90 training pictures as bank, 30 test queries' knn
refused 'no class subfolders' "$trainer" knn --model m.safetensors --data data/train/cat
refused 'nothing.safetensors' "$trainer" knn --model nothing.safetensors --data data

"$trainer" embed --model m.safetensors --data data --device cpu --precision fp32 --out v.npy >log
"$trainer" embed --model m.safetensors --data data --device cpu --precision fp32 --out w.npy --batch 7 --ids names >log
cmp v.txt names
[ "$(wc -l <v.txt)" -eq 120 ] || fail "expected 120 names"
python3 - <<'PY'
import ast, json, math, struct
def load(path):
    raw = open(path, "rb").read()
    assert raw[:8] == b"\x93NUMPY\x01\x00", raw[:8]
    (n,) = struct.unpack("<H", raw[8:10])
    assert (10 + n) % 64 == 0
    head = ast.literal_eval(raw[10:10 + n].decode())
    assert head["descr"] == "<f4" and head["fortran_order"] is False, head
    rows, dim = head["shape"]
    flat = struct.unpack(f"<{rows * dim}f", raw[10 + n:])
    return [flat[i * dim:(i + 1) * dim] for i in range(rows)]
rows, other = load("v.npy"), load("w.npy")
assert len(rows) == 120 and len(rows[0]) == 64
for a, b in zip(rows, other):
    assert abs(math.fsum(x * x for x in a) - 1) < 1e-5
    assert max(abs(x - y) for x, y in zip(a, b)) < 1e-5
# kNN again from the vectors on disk.
names = open("v.txt").read().split("\n")[:-1]
split, label = [n.split("/")[0] for n in names], [n.split("/")[1] for n in names]
bank = [i for i in range(120) if split[i] == "train"]
right = right1 = 0
for q in (i for i in range(120) if split[i] == "test"):
    cos = sorted(((sum(x * y for x, y in zip(rows[q], rows[b])), b) for b in bank), key=lambda s: (-s[0], s[1]))
    votes = {}
    for c, b in cos[:7]:
        votes[label[b]] = votes.get(label[b], 0) + math.exp(c / .1)
    right += max(sorted(votes), key=votes.get) == label[q]
    right1 += label[cos[0][1]] == label[q]
said = json.load(open("knn.json"))
assert abs(said["knn"] - 100 * right / 30) < 1e-6 and abs(said["nn1"] - 100 * right1 / 30) < 1e-6, (said, right, right1)
ran = json.load(open("m.run/run.json"))["results"]
assert abs(ran["knn"] - said["knn"]) < .005 and abs(ran["nn1"] - said["nn1"]) < .005, (ran, said)
PY
"$trainer" inspect m.safetensors >inspect
for text in 'resnet18, width 8, cifar stem, 16 x 16 pixels' 'byol' 'data_hash' 'layer4.1.bn2.running_var' 'fingerprint'; do
    holds "$text" inspect
done
"$trainer" inspect m.run/checkpoint.lk >inspect
for text in 'a training checkpoint' '4 of 4 epochs' 'projector-hidden' 'teacher'; do holds "$text" inspect; done
printf 'junk' >junk
refused 'junk' "$trainer" inspect junk
