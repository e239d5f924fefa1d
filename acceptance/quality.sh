# What the scripts about quality share; sourced by them after lib.sh.
# shellcheck shell=bash

# shellcheck disable=SC2034  # for the scripts that source this
silent=(--log-level warning --progress never)

# Trains into FOLDER/run, or goes on with what is there; FOLDER/trained says that it has ended.
train_run() { # FOLDER RECIPE OVERRIDE...
    local folder=$1 run=$1/run status began=$SECONDS
    [ ! -e "$folder/trained" ] || return 0
    mkdir -p "$folder" || exit 73
    set_mpirun "${ranks:?}"
    if [ -e "$run/checkpoints/latest" ]; then
        "${MPIRUN[@]}" "${acuity:?}" resume "$run" --progress lines --log-level warning >>"$folder/output.txt" 2>&1 </dev/null
    else
        rm -rf "$run"
        "${MPIRUN[@]}" "$acuity" train "${@:2}" "run.folder=$run" --progress lines --log-level warning \
            >"$folder/output.txt" 2>&1 </dev/null
    fi
    status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 5 "$folder/output.txt"
        stop "$(basename "$folder") ended with status $status; start this script again to go on"
    fi
    touch "$folder/trained"
    echo "  $(basename "$folder"): trained ($(duration $((SECONDS - began))))"
}

# Runs a command that makes FILE, unless it is there; {} among its arguments is what it shall write.
once() { # FILE COMMAND...
    [ ! -e "$1" ] || return 0
    local file=$1 new=${1%.*}.new.${1##*.}
    shift
    rm -f "$new"
    "${@/#\{\}/$new}" >"$file.log" 2>&1 </dev/null || {
        tail -n 5 "$file.log"
        stop "$(basename "$file") could not be made"
    }
    mv "$new" "$file"
}

# The recogniser of others: a MobileFaceNet trained on CASIA-WebFace. Sets `pretrained`.
need_pretrained() { need_faces models/mobilefacenet-112x96/mobilefacenet.safetensors; }
import_pretrained() { # FOLDER
    pretrained=$1/pretrained.safetensors
    once "$pretrained" "$acuity" import "${faces:?}/models/mobilefacenet-112x96/mobilefacenet.safetensors" \
        --network mobilefacenet --embedding 128 --input 112x96 --mean 127.5 --scale 128 --output {}
}
