#!/usr/bin/env bash
# Instructions that each stage of a request's way takes, as a Markdown table: an attestation in a burst
# of 64 of one root, a block alone. What is counted, and what is not, stands in
# tests/examples/request_path/main.rs.
#
#     tests/request-path.sh [ROUNDS]      with what callgrind wrote kept in target/request-path
#
# Valgrind's processor has neither ADX nor SHA-NI, so that hashing and curve arithmetic take more here
# than on a processor of today.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-2}
for tool in valgrind callgrind_annotate; do
    command -v "$tool" >/dev/null || {
        echo "$0: there is no $tool; instructions cannot be counted without valgrind" >&2
        exit 1
    }
done

cargo build --locked --release -p tests --example request_path
program=target/release/examples/request_path
kept=target/request-path
mkdir -p "$kept"

# Prints, for each stage: name, side, what, times per signature, instructions each.
count() {
    local kind=$1 validators=$2
    local name=$kept/$kind-$validators
    valgrind --tool=callgrind --quiet --callgrind-out-file="$name.callgrind" \
        "$program" "$kind" "$validators" "$rounds" >"$name.stages"
    callgrind_annotate --inclusive=yes --threshold=100 --show-percs=no --auto=no \
        "$name.callgrind" >"$name.annotated"
    awk -F '\t' '
        FNR == NR {
            if (match($0, /request_path::stages::[a-z_]+/)) {
                function_name = substr($0, RSTART + 22, RLENGTH - 22)
                split($0, words, " ")
                gsub(",", "", words[1])
                # What a stage calls is named after it as well, and takes less.
                if (words[1] + 0 > taken[function_name]) taken[function_name] = words[1] + 0
            }
            next
        }
        {
            if (!($1 in taken)) { print "no count of " $1 > "/dev/stderr"; exit 1 }
            # The way into the conductor that tests have hashes each order once more.
            more = $1 == "conduct" ? taken["roots"] : 0
            printf "%s\t%s\t%s\t%d\t%s\t%.0f\n", $1, $2, $3, $4, $6, (taken[$1] - more) / $5
        }
    ' "$name.annotated" "$name.stages" >"$name.counts"
}

count attestation 64
count block 1

paste "$kept/attestation-64.counts" "$kept/block-1.counts" | awk -F '\t' '
    function thousands(number,   text, groups) {
        text = sprintf("%.0f", number)
        while (length(text) > 3) {
            groups = "," substr(text, length(text) - 2) groups
            text = substr(text, 1, length(text) - 3)
        }
        return text groups
    }
    BEGIN {
        print "| where | stage | times per signature | attestation, burst of 64 | block, alone |"
        print "|---|---|---|---|---|"
    }
    {
        printf "| %s | %s: %s | %d | %s | %s |\n", $2, $1, $3, $4, thousands($6), thousands($12)
        if ($5 == "whole") {
            burst[$2] += $4 * $6
            alone[$2] += $4 * $12
        }
        if ($1 == "multiply") plain = $12
    }
    END {
        for (place = split("signer-api cosigner", sides, " "); place > 0; place--) {
            side = sides[place]
            all = thousands(burst[side]) " | " thousands(alone[side])
            print "| " side " | **all for one signature** | | " all " |"
        }
        in_burst = (burst["signer-api"] + burst["cosigner"]) / plain
        by_itself = (alone["signer-api"] + alone["cosigner"]) / plain
        printf "| both | in signatures made alone (multiply) | | %.2f | %.2f |\n", in_burst, by_itself
    }
'
