# Training on real faces and verifying LFW, at any precision; sourced by real-faces and its relatives after lib.sh.
# shellcheck shell=bash

recipe=configs/real-faces.yaml
ranks=2

# Ends with 77 when something is missing; sets `pairs`.
need_recipe() {
    need_faces train.tsv
    need_faces train
    need_faces lfw
    need_faces lfw-protocol/pairs.txt
    need_python
    command -v mpirun >/dev/null 2>&1 || not_run "there is no mpirun"
    pairs=${faces:?}/lfw-protocol/pairs.txt
}

# Sets `arithmetic`, an override: bf16 where the processor has its products, in half the time; acceptance/real-faces-bf16
# says what that costs. All sides of a comparison are trained with the same.
choose_arithmetic() {
    arithmetic=compute.precision=fp32
    grep -q -m 1 -w avx512_bf16 /proc/cpuinfo && arithmetic=compute.precision=bf16
    echo "trained with $arithmetic"
}

# Checked every time: a figure on images that were trained on would be worth nothing.
check_disjoint() {
    echo "training images against LFW's:"
    check_that "no image and no name in common" acceptance/compare-images "$faces/train.tsv" "$faces/train" "$faces/lfw"
    if [ "${failures:?}" -gt 0 ]; then finish; fi
}

# Trains into STATE/run, or goes on with what is there.
train_faces() { # STATE OVERRIDE...
    local state=$1 run=$1/run status
    if [ -e "$state/trained" ]; then
        echo "trained earlier, at this commit and with this recipe"
        return
    fi
    need_quiet_machine
    set_mpirun "$ranks"
    if [ -e "$run/checkpoints/latest" ]; then
        echo "going on with the run of an earlier start"
        "${MPIRUN[@]}" "${acuity:?}" resume "$run" --progress lines
    else
        rm -rf "$run"
        "${MPIRUN[@]}" "$acuity" train "$recipe" "data.train=$faces/train.tsv" "data.folder=$faces/train" \
            "run.folder=$run" "${@:2}" --progress lines
    fi
    status=$?
    [ "$status" -eq 0 ] || stop "the training ended with status $status; start this script again to go on"
    touch "$state/trained"
}

# Prints what a run's log says: losses, rate, time. With `rate` only the median rate in images/s.
run_log() { # RUN [rate]
    python3 - "$@" <<'PROGRAM'
import json
import sys

# After a resume the steps that were lost stand twice: the later ones count. The time is that of all parts, from the
# first to the last event of each.
steps, rates, parts = {}, [], []
for line in open(sys.argv[1] + "/log.jsonl", encoding="utf-8"):
    event = json.loads(line)
    if event["event"] == "resume":
        steps = {step: loss for step, loss in steps.items() if step <= event["step"]}
    if event["event"] == "resume" or not parts:
        parts.append([event["ts"], event["ts"]])
    parts[-1][1] = event["ts"]
    if event["event"] == "step":
        steps[event["step"]] = event["loss"]
        if event["step"] > 1:
            rates.append(event["images_per_second"])
median = f"{sorted(rates)[len(rates) // 2]:.1f}" if rates else "none"
if sys.argv[2:] == ["rate"]:
    print(median)
    sys.exit()
for step, loss in sorted(steps.items()):
    if step % 100 == 0:
        print(f"  step {step:6d}  loss {float(loss):8.4f}")
print(f"  median {median} images/s")
seconds = sum(end - begin for begin, end in parts)
print(f"  trained in {seconds / 60:.1f} min in {len(parts)} part(s), lost steps included")
PROGRAM
}

report_training() { # STATE
    echo "loss every 100 steps, and the rate:"
    run_log "$1/run"
    echo "  $(processors) processors, $ranks ranks"
}

# Verifies LFW with the trained model; the report is STATE/report.txt.
evaluate_faces() { # STATE
    [ -e "$1/trained" ] || not_run "there is no trained model of this commit; run the part 'train' first"
    rm -f "$1/report.txt"
    "$acuity" evaluate --weights "$1/run" --set "$faces/lfw" --pairs "$pairs" --output "$1/report" \
        --log-level warning --progress never >"$1/report.new" || stop "the evaluation failed"
    mv "$1/report.new" "$1/report.txt"
    cat "$1/report.txt"
}
