# What the scripts about quality share; sourced by them after lib.sh.
# shellcheck shell=bash

# shellcheck disable=SC2034  # for the scripts that source this
silent=(--log-level warning --progress never)

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
    once "$pretrained" "${acuity:?}" import "${faces:?}/models/mobilefacenet-112x96/mobilefacenet.safetensors" \
        --network mobilefacenet --embedding 128 --input 112x96 --mean 127.5 --scale 128 --output {}
}
